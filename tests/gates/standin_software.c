/* Stand-ins for CUDA libraries, for tests without a GPU. Compiled once for each library and fault:
 *   cc -shared -fPIC -DLIB_cudart -DVERSION=13000 [-DFAULT_constant] ...
 * They do the work they are asked for on the processor, in the process's own memory, and are never shipped.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION 13000
#endif
const char planner_standin[] = "stand-in for tests, no CUDA";

#ifdef FAULT_hang
__attribute__((constructor)) static void fault(void) { sleep(1000); }
#endif
#ifdef FAULT_crash
__attribute__((constructor)) static void fault(void) { abort(); }
#endif

#ifdef LIB_cuda
struct image { unsigned arch, ptx, a, b, c; };
int cuInit(unsigned f) { return 0; }
int cuDriverGetVersion(int *v) { *v = VERSION; return 0; }
int cuDeviceGet(int *d, int n) { *d = n; return 0; }
int cuDevicePrimaryCtxRetain(void **c, int d) { *c = (void *)1; return 0; }
int cuDevicePrimaryCtxRelease_v2(int d) { return 0; }
int cuCtxSetCurrent(void *c) { return 0; }
int cuCtxSynchronize(void) { return 0; }
int cuDeviceGetName(char *t, int n, int d) { snprintf(t, n, "GPU (stand-in)"); return 0; }
int cuDeviceGetUuid(unsigned char *u, int d) { memset(u, 7, 16); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 9 : a == 76 ? 0 : 4; return 0; }
int cuGetErrorName(int e, const char **t) { *t = "STANDIN_ERROR"; return 0; }
int cuGetErrorString(int e, const char **t) { *t = "said by a stand-in"; return 0; }
int cuMemAlloc_v2(uint64_t *p, size_t n) { *p = (uint64_t)(uintptr_t)malloc(n); return 0; }
int cuMemFree_v2(uint64_t p) { free((void *)(uintptr_t)p); return 0; }
int cuMemsetD32_v2(uint64_t p, unsigned v, size_t n) { for (size_t i = 0; i < n; i++) ((unsigned *)(uintptr_t)p)[i] = v; return 0; }
int cuMemcpyHtoD_v2(uint64_t p, const void *s, size_t n) { memcpy((void *)(uintptr_t)p, s, n); return 0; }
int cuMemcpyDtoH_v2(void *t, uint64_t p, size_t n) { memcpy(t, (void *)(uintptr_t)p, n); return 0; }
int cuModuleLoadData(void **m, const void *data)
{
    struct image i;
    if (sscanf(data, "image %u ptx %u: %u %u %u", &i.arch, &i.ptx, &i.a, &i.b, &i.c) != 5)
        return 200;
#ifdef FAULT_old_driver
    if (i.ptx)
        return 222;
#endif
#ifndef FAULT_runs_anything
    if (!i.ptx && i.arch != 90)
        return 209;
#endif
    *m = malloc(sizeof i);
    memcpy(*m, &i, sizeof i);
    return 0;
}
int cuModuleUnload(void *m) { free(m); return 0; }
int cuModuleGetFunction(void **f, void *m, const char *n) { *f = m; return strcmp(n, "planner_software") ? 500 : 0; }
int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned s,
                   void *st, void **p, void **e)
{
    struct image *i = f;
    unsigned *out = *(unsigned **)p[0], n = *(unsigned *)p[1];
    for (unsigned k = 0; k < n; k++) {
        unsigned x = k * i->a + i->b;
        x ^= x >> 13;
        x *= i->c;
#ifdef FAULT_constant
        x = 42;
#endif
        out[k] = x ^ x >> 16;
    }
    return 0;
}
#endif

#ifdef LIB_cudart
int cudaRuntimeGetVersion(int *v) { *v = VERSION; return 0; }
int cudaDriverGetVersion(int *v) { *v = 13000; return 0; }
const char *cudaGetErrorName(int e) { return "standInError"; }
#ifndef FAULT_missing_symbol
int cudaMalloc(void **p, size_t n)
{
#ifdef FAULT_driver_too_old
    return 35;
#endif
#ifdef FAULT_call_too_new
    return 36;
#endif
    *p = malloc(n);
    return 0;
}
#endif
int cudaFree(void *p) { free(p); return 0; }
int cudaDeviceReset(void) { return 0; }
int cudaMemcpy(void *t, const void *s, size_t n, int way)
{
#ifdef FAULT_constant
    memset(t, 0x42, n);
#elif !defined(FAULT_no_work)
    memcpy(t, s, n);
#endif
    return 0;
}
int cudaGetDeviceCount(int *n)
{
    const char *c = getenv("CUDA_VISIBLE_DEVICES");
    for (*n = c && *c; c && *c; c++)
        *n += *c == ',';
#ifdef FAULT_sees_one
    *n = 1;
#endif
    return 0;
}
#endif

#ifdef LIB_nvrtc
static char image[200];
int nvrtcVersion(int *a, int *b) { *a = VERSION / 1000; *b = VERSION % 1000 / 10; return 0; }
int nvrtcGetNumSupportedArchs(int *n) { *n = 2; return 0; }
int nvrtcGetSupportedArchs(int *a) { a[0] = 80; a[1] = 90; return 0; }
int nvrtcCreateProgram(void **p, const char *text, const char *name, int n, void *h, void *i) { *p = strdup(text); return 0; }
int nvrtcDestroyProgram(void **p) { free(*p); return 0; }
int nvrtcCompileProgram(void *p, int n, const char **o)
{
    unsigned a, b, c, arch;
    char kind[20];
    if (sscanf(strstr(p, "i * "), "i * %uu + %uu", &a, &b) != 2 || sscanf(strstr(p, "x *= "), "x *= %uu", &c) != 1)
        return 6;
    if (sscanf(o[0], "--gpu-architecture=%7[a-z]_%u", kind, &arch) != 2)
        return 5;
    snprintf(image, sizeof image, "image %u ptx %d: %u %u %u", arch, kind[0] == 'c', a, b, c);
    return 0;
}
int nvrtcGetProgramLogSize(void *p, size_t *n) { *n = 4; return 0; }
int nvrtcGetProgramLog(void *p, char *t) { strcpy(t, "bad"); return 0; }
int nvrtcGetCUBINSize(void *p, size_t *n) { *n = sizeof image; return 0; }
int nvrtcGetCUBIN(void *p, char *t) { memcpy(t, image, sizeof image); return 0; }
int nvrtcGetPTXSize(void *p, size_t *n) { *n = sizeof image; return 0; }
int nvrtcGetPTX(void *p, char *t) { memcpy(t, image, sizeof image); return 0; }
#endif

#ifdef LIB_cublas
int cublasCreate_v2(void **h)
{
#ifdef FAULT_refuses
    return 1;
#endif
    *h = (void *)1;
    return 0;
}
int cublasDestroy_v2(void *h) { return 0; }
int cublasGetVersion_v2(void *h, int *v) { *v = VERSION; return 0; }
int cublasGetProperty(int part, int *v) { *v = part == 0 ? VERSION / 1000 : 0; return 0; }
int cublasSgemm_v2(void *h, int ta, int tb, int m, int n, int k, const float *al, const float *a, int lda,
                   const float *b, int ldb, const float *be, float *c, int ldc)
{
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            float s = 0;
            for (int q = 0; q < k; q++)
                s += a[i + q * lda] * b[q + j * ldb];
#ifdef FAULT_constant
            s = 42;
#endif
#ifndef FAULT_no_work
            c[i + j * ldc] = s;
#endif
        }
    return 0;
}
#endif

#ifdef LIB_cufft
int cufftGetVersion(int *v) { *v = 12000; return 0; }
int cufftPlan1d(int *p, int n, int kind, int batch) { *p = n; return 0; }
int cufftDestroy(int p) { return 0; }
int cufftExecC2C(int p, const float *s, float *t, int way)
{
    for (int i = 0; i < p; i++) { /* right for an impulse at the first point only */
        t[2 * i] = s[0];
        t[2 * i + 1] = s[1];
    }
    return 0;
}
#endif

#ifdef LIB_cudnn
size_t cudnnGetVersion(void) { return 91002; }
int cudnnCreate(void **h) { *h = (void *)1; return 0; }
int cudnnDestroy(void *h) { return 0; }
int cudnnCreateTensorDescriptor(int **d) { *d = calloc(4, 4); return 0; }
int cudnnSetTensor4dDescriptor(int *d, int f, int t, int n, int c, int h, int w) { d[0] = h; return 0; }
int cudnnCreateFilterDescriptor(int **d) { *d = calloc(4, 4); return 0; }
int cudnnSetFilter4dDescriptor(int *d, int t, int f, int k, int c, int h, int w) { d[0] = h; return 0; }
int cudnnCreateConvolutionDescriptor(int **d) { *d = calloc(4, 4); return 0; }
int cudnnSetConvolution2dDescriptor(int *d, int a, int b, int c, int e, int f, int g, int mode, int t) { d[0] = mode; return 0; }
int cudnnConvolutionForward(void *h, const float *al, int *dx, const float *x, int *dw, const float *w, int *way, int algo,
                            void *space, size_t n, const float *be, int *dy, float *y)
{
#ifdef FAULT_no_convolution
    return 9;
#endif
    for (int r = 0; r < dy[0]; r++)
        for (int c = 0; c < dy[0]; c++) {
            float s = 0;
            for (int i = 0; i < dw[0]; i++)
                for (int j = 0; j < dw[0]; j++)
                    s += x[(r + i) * dx[0] + c + j] * w[i * dw[0] + j];
            y[r * dy[0] + c] = s;
        }
    return 0;
}
int cudnnAddTensor(void *h, const float *al, int *da, const float *a, const float *be, int *dc, float *c)
{
    for (int i = 0; i < da[0] * da[0]; i++)
        c[i] += a[i];
    return 0;
}
#endif

#ifdef LIB_cublasLt
size_t cublasLtGetVersion(void) { return 130000; }
#endif
#ifdef LIB_curand
int curandGetVersion(int *v) { *v = 10400; return 0; }
#endif
#ifdef LIB_cusolver
int cusolverGetVersion(int *v) { *v = 12000; return 0; }
#endif
#ifdef LIB_cusparse
int cusparseGetProperty(int part, int *v) { *v = part == 0 ? 12 : 6; return 0; }
#endif
#ifdef LIB_nppc
struct { int major, minor, build; } npp = {13, 0, 1};
const void *nppGetLibVersion(void) { return &npp; }
#endif
#ifdef LIB_nvjpeg
int nvjpegGetProperty(int part, int *v) { *v = part == 0 ? 13 : 0; return 0; }
#endif
#ifdef LIB_nvJitLink
int nvJitLinkVersion(unsigned *a, unsigned *b) { *a = 13; *b = 0; return 0; }
#endif
#ifdef LIB_nvinfer
int getInferLibVersion(void) { return 101300; }
#endif
