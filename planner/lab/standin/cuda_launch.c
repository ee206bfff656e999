/* Stand-in libcuda.so.1, modules and launches: PTX is looked through for its kernels, which are known by name. */
#include "cuda.h"
#include <ctype.h>

enum { ERROR_LOG = 5, ERROR_LOG_BYTES = 6 };    /* CU_JIT_ERROR_LOG_BUFFER and its size */
struct module { char *text; };
struct function { char name[128]; };

/* Tell whether a text is PTX: its version directive stands behind nothing but blanks and comments. */
static int is_ptx(const char *text) {
    for (;;) {
        text += strspn(text, " \t\r\n");
        if (!strncmp(text, "//", 2))
            text += strcspn(text, "\n");
        else if (!strncmp(text, "/*", 2) && strstr(text, "*/"))
            text = strstr(text, "*/") + 2;
        else
            return !strncmp(text, ".version", 8);
    }
}

/* Return the compute capability that a module is made for, as 70 for sm_70. */
static int target(const char *text) {
    const char *word = strstr(text, ".target sm_");
    return word ? atoi(word + strlen(".target sm_")) : 0;
}

static int load(struct module **out, const char *image) {
    int major, minor;
    if (!current)
        return INVALID_CONTEXT;
    if (!image)
        return INVALID_VALUE;
    if (!memcmp(image, "\177ELF", 4))
        return NOT_SUPPORTED;       /* machine code: there is no machine for it */
    if (!is_ptx(image))
        return INVALID_PTX;
    compute_capability(&major, &minor);
    if (target(image) > 10 * major + minor)
        return NO_BINARY_FOR_GPU;
    *out = malloc(sizeof **out);
    (*out)->text = strdup(image);
    return SUCCESS;
}

PUBLIC int cuModuleLoadData(struct module **out, const void *image) {
    PLAY();
    return load(out, image);
}

/* What the compiler has to say goes to the buffer that the options name. */
PUBLIC int cuModuleLoadDataEx(struct module **out, const void *image, unsigned n, const int *options, void **values) {
    int code = play(__func__, physical());
    char *log = NULL;
    size_t size = 0;
    for (unsigned i = 0; i < n; i++) {
        if (options[i] == ERROR_LOG)
            log = values[i];
        if (options[i] == ERROR_LOG_BYTES)
            size = (size_t)(uintptr_t)values[i];
    }
    code = code ? code : load(out, image);
    if (code && log && size)
        snprintf(log, size, "ptxas (stand-in): module for sm_%d refused", image ? target(image) : 0);
    return code;
}

PUBLIC int cuModuleUnload(struct module *module) {
    PLAY();
    free(module->text);
    free(module);
    return SUCCESS;
}

PUBLIC int cuModuleGetFunction(struct function **out, struct module *module, const char *name) {
    size_t length = strlen(name);
    PLAY();
    for (const char *p = module->text; (p = strstr(p, ".entry")); p += 6) {
        const char *word = p + 6 + strspn(p + 6, " \t\r\n");
        if (!strncmp(word, name, length) && !isalnum((unsigned char)word[length]) && word[length] != '_') {
            *out = calloc(1, sizeof **out);
            snprintf((*out)->name, sizeof (*out)->name, "%s", name);
            return SUCCESS;
        }
    }
    return NOT_FOUND;
}

/* A kernel's own error shows at the next synchronisation, as on a GPU. */
PUBLIC int cuLaunchKernel(struct function *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                          unsigned bz, unsigned shared, void *stream, void **parameters, void **extra) {
    struct output out = {NULL, 0};
    struct timespec since;
    clock_gettime(CLOCK_MONOTONIC, &since);
    (void)shared, (void)stream;
    PLAY();
    if (!current)
        return INVALID_CONTEXT;
    if (!function)
        return INVALID_HANDLE;
    if (sticky)
        return sticky;
    const struct kernel *kernel = find_kernel(function->name);
    if (!kernel)
        return NOT_SUPPORTED;
    if (!parameters || extra || !gx || !bx || gy != 1 || gz != 1 || by != 1 || bz != 1 || bx > 1024)
        return INVALID_VALUE;
    if (kernel_is_idle(kernel->name, physical()))
        return SUCCESS;
    sticky = kernel->run(parameters, gx * bx, &out);
    unsigned none = 0;
    if (out.count && (fault_on_gpu(FAULT "gate-wrong", physical())
                      || (instance() && fault_on_mig(FAULT "mig-wrong", instance(), &none))))
        out.words[out.count / 3] ^= 1U << 7;
    spoil(kernel->name, physical(), out.words, out.count);
    take_at_least(&since, 20);
    return SUCCESS;
}
