/* Stand-in nvidia-smi over libnvidia-ml.so.1: table, -L, --version, --query-gpu, --query-compute-apps; the real one's exit codes. */
#include "common.h"
#include <dlfcn.h>

typedef void *Device;
struct process { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; };

static int (*init)(void);
static const char *(*error_text)(int);
static int (*driver_version)(char *, unsigned), (*nvml_version)(char *, unsigned), (*cuda_version)(int *);
static int (*count)(unsigned *), (*handle)(unsigned, Device *);
static int (*name)(Device, char *, unsigned), (*uuid)(Device, char *, unsigned), (*vbios)(Device, char *, unsigned);
static int (*memory)(Device, unsigned long long *), (*ecc)(Device, int, int, unsigned long long *);
static int (*processes)(Device, unsigned *, struct process *);

static int load(void) {
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    if (!library)
        return 0;
    init = (int (*)(void))dlsym(library, "nvmlInit_v2");
    error_text = (const char *(*)(int))dlsym(library, "nvmlErrorString");
    driver_version = (int (*)(char *, unsigned))dlsym(library, "nvmlSystemGetDriverVersion");
    nvml_version = (int (*)(char *, unsigned))dlsym(library, "nvmlSystemGetNVMLVersion");
    cuda_version = (int (*)(int *))dlsym(library, "nvmlSystemGetCudaDriverVersion_v2");
    count = (int (*)(unsigned *))dlsym(library, "nvmlDeviceGetCount_v2");
    handle = (int (*)(unsigned, Device *))dlsym(library, "nvmlDeviceGetHandleByIndex_v2");
    name = (int (*)(Device, char *, unsigned))dlsym(library, "nvmlDeviceGetName");
    uuid = (int (*)(Device, char *, unsigned))dlsym(library, "nvmlDeviceGetUUID");
    vbios = (int (*)(Device, char *, unsigned))dlsym(library, "nvmlDeviceGetVbiosVersion");
    memory = (int (*)(Device, unsigned long long *))dlsym(library, "nvmlDeviceGetMemoryInfo");
    ecc = (int (*)(Device, int, int, unsigned long long *))dlsym(library, "nvmlDeviceGetTotalEccErrors");
    processes = (int (*)(Device, unsigned *, struct process *))dlsym(library, "nvmlDeviceGetComputeRunningProcesses_v3");
    return init && handle && processes;
}

/* Print why NVML did not start; returns nvidia-smi's exit code. */
static int refuse(int code) {
    char text[96] = "", *version;
    if (code == 9) {
        puts("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest "
             "NVIDIA driver is installed and running.\n");
        return 9;
    }
    nvml_version(text, sizeof text);
    version = strchr(text, '.');
    printf("Failed to initialize NVML: %s\nNVML library version: %s\n", error_text(code), version ? version + 1 : text);
    return code;
}

static void field(const char *key, unsigned index, Device device, const char *driver) {
    char text[128];
    unsigned long long sizes[3] = {0, 0, 0}, errors = 0;
    if (!strcmp(key, "index"))
        printf("%u", index);
    else if (!strcmp(key, "name") && !name(device, text, sizeof text))
        printf("%s", text);
    else if ((!strcmp(key, "uuid") || !strcmp(key, "gpu_uuid")) && !uuid(device, text, sizeof text))
        printf("%s", text);
    else if (!strcmp(key, "vbios_version") && !vbios(device, text, sizeof text))
        printf("%s", text);
    else if (!strcmp(key, "driver_version"))
        printf("%s", driver);
    else if (!strcmp(key, "memory.total") && !memory(device, sizes))
        printf("%llu MiB", sizes[0] >> 20);
    else if (strstr(key, "ecc.errors.uncorrected") && !ecc(device, 1, 0, &errors))
        printf("%llu", errors);
    else
        printf("[N/A]");
}

static void row(const char *query, unsigned index, Device device, const char *driver) {
    char keys[1024], *rest = keys, *key;
    int first = 1;
    snprintf(keys, sizeof keys, "%s", query);
    while ((key = strsep(&rest, ","))) {
        printf("%s", first ? "" : ", ");
        field(key, index, device, driver);
        first = 0;
    }
    puts("");
}

static void users(unsigned index, Device device) {
    struct process found[4];
    unsigned number = 4;
    (void)index;
    if (!processes(device, &number, found))
        for (unsigned i = 0; i < number; i++)
            printf("%u, [Not Found], %llu MiB\n", found[i].pid, found[i].memory >> 20);
}

int main(int argc, char **argv) {
    const char *query = NULL;
    int list = 0, apps = 0, header = 1, only_version = 0, status = 0, cuda = 0;
    unsigned number = 0;
    char driver[96], text[128], id[96];
    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "--query-gpu=", 12))
            query = argv[i] + 12;
        apps |= !strncmp(argv[i], "--query-compute-apps", 20);
        list |= !strcmp(argv[i], "-L") || !strcmp(argv[i], "--list-gpus");
        only_version |= !strcmp(argv[i], "--version");
        if (!strncmp(argv[i], "--format=", 9) && strstr(argv[i], "noheader"))
            header = 0;
    }
    if (!load()) {
        puts("NVIDIA-SMI couldn't find libnvidia-ml.so library in your system. Please make sure that the NVIDIA Display "
             "Driver is properly installed and present in your system.");
        return 12;
    }
    if ((status = init()))
        return refuse(status);
    driver_version(driver, sizeof driver);
    cuda_version(&cuda);
    count(&number);
    if (only_version) {
        nvml_version(text, sizeof text);
        printf("NVIDIA-SMI version  : %s (stand-in)\nNVML version        : %s\nDRIVER version      : %s\nCUDA Version        : %d.%d\n",
               driver, text, driver, cuda / 1000, cuda % 1000 / 10);
        return 0;
    }
    if (query && header)
        puts(query);
    else if (!query && !list && !apps)
        printf("| NVIDIA-SMI %s (stand-in)   Driver Version: %s   CUDA Version: %d.%d |\n", driver, driver, cuda / 1000, cuda % 1000 / 10);
    for (unsigned i = 0; i < number; i++) {
        Device device;
        int code = handle(i, &device);
        if (code) {
            printf("Unable to determine the device handle for GPU%u: 0000:%02X:00.0: %s\n", i, 16 + i, error_text(code));
            status = code;
            continue;
        }
        name(device, text, sizeof text);
        uuid(device, id, sizeof id);
        if (query)
            row(query, i, device, driver);
        else if (apps)
            users(i, device);
        else if (list)
            printf("GPU %u: %s (UUID: %s)\n", i, text, id);
        else
            printf("| %3u  %s |\n", i, text);
    }
    return status;
}
