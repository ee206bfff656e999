/* Stand-in libnvidia-ml.so.1, one GPU: health, settings, clocks, use, links and fabric. All of it is still: temperatures
   and clocks do not move unless a test makes them. */
#include "nvml.h"

/* A call with one number as its answer: a test's, else the usual one. */
#define READS(call, type, name, usual) \
    PUBLIC Return call(Device device, type *out) { \
        PLAY(); \
        *out = (type)value_of(name, index_of(device), usual); \
        return SUCCESS; \
    }
/* The same with one argument that makes no difference. */
#define READS_OF(call, type, name, usual) \
    PUBLIC Return call(Device device, int argument, type *out) { \
        (void)argument; \
        PLAY(); \
        *out = (type)value_of(name, index_of(device), usual); \
        return SUCCESS; \
    }

/* ---- health ---- */

PUBLIC Return nvmlDeviceGetEccMode(Device device, unsigned *current, unsigned *pending) {
    PLAY();
    *current = (unsigned)value_of("ecc_mode", index_of(device), 1);
    *pending = (unsigned)value_of("ecc_mode_pending", index_of(device), *current);
    return SUCCESS;
}

/* Uncorrected errors by the lab's fault "GPU COUNT", or what a test says; there are no corrected ones. */
static unsigned long long ecc_errors(int gpu, int kind) {
    char line[64];
    int where = -1;
    unsigned long long errors = 0;
    if (read_line(FAULT "ecc", line, sizeof line))
        sscanf(line, "%d %llu", &where, &errors);
    long usual = kind == 1 && where == gpu ? (long)errors : 0;
    return (unsigned long long)value_of(kind == 1 ? "ecc_uncorrected" : "ecc_corrected", gpu, usual);
}

PUBLIC Return nvmlDeviceGetTotalEccErrors(Device device, int kind, int counter, unsigned long long *out) {
    (void)counter;
    PLAY();
    *out = ecc_errors(index_of(device), kind);
    return SUCCESS;
}

/* All of them are in the device's own memory (place 2). */
PUBLIC Return nvmlDeviceGetMemoryErrorCounter(Device device, int kind, int counter, int place, unsigned long long *out) {
    (void)counter;
    PLAY();
    *out = place == 2 ? ecc_errors(index_of(device), kind) : 0;
    return SUCCESS;
}

PUBLIC Return nvmlDeviceGetRemappedRows(Device device, unsigned *good, unsigned *bad, unsigned *pending, unsigned *failed) {
    PLAY();
    if (find_mig(index_of(device), -1))
        return NOT_SUPPORTED;       /* as on a GPU with MIG instances */
    *good = (unsigned)value_of("remapped_corrected", index_of(device), 0);
    *bad = (unsigned)value_of("remapped_uncorrected", index_of(device), 0);
    *pending = (unsigned)value_of("remap_pending", index_of(device), 0);
    *failed = (unsigned)value_of("remap_failed", index_of(device), 0);
    return SUCCESS;
}

READS(nvmlDeviceGetRetiredPagesPendingStatus, int, "retired_pending", 0)

struct field { unsigned id, scope; long long timestamp, latency; unsigned type; Return status; unsigned long long value; };

/* Fields by number: the recovery action (230: 0 is none) and the links' error counters (161 to 163). */
PUBLIC Return nvmlDeviceGetFieldValues(Device device, int count, struct field *fields) {
    int gpu = index_of(device);
    PLAY();
    for (int i = 0; i < count; i++) {
        fields[i].type = 3;         /* unsigned long long */
        fields[i].status = SUCCESS;
        if (fields[i].id == 230)
            fields[i].value = (unsigned long long)value_of("recovery_action", gpu, 0);
        else if (fields[i].id >= 161 && fields[i].id <= 163)
            fields[i].value = (unsigned long long)value_of("nvlink_errors", gpu, 0);
        else
            fields[i].status = NOT_SUPPORTED;
    }
    return SUCCESS;
}

/* ---- settings and modes ---- */

READS(nvmlDeviceGetVirtualizationMode, int, "virtualization", 0)
READS(nvmlDeviceGetPersistenceMode, int, "persistence", 1)
READS(nvmlDeviceGetComputeMode, int, "compute_mode", 0)
READS(nvmlDeviceGetPowerManagementLimit, unsigned, "power_limit_mw", 700000)
READS(nvmlDeviceGetEnforcedPowerLimit, unsigned, "power_limit_mw", 700000)
READS(nvmlDeviceGetPowerManagementDefaultLimit, unsigned, "power_default_mw", 700000)

PUBLIC Return nvmlDeviceGetPowerManagementLimitConstraints(Device device, unsigned *low, unsigned *high) {
    PLAY();
    *low = 200000;
    *high = 700000;
    return SUCCESS;
}

struct licence_feature {
    int code;
    unsigned state;
    char info[128], product[128];
    unsigned enabled;
    struct { unsigned year; unsigned short month, day, hour, minute, second; unsigned char status; } expiry;
};
struct licences { int supported; unsigned count; struct licence_feature features[3]; };

/* Asked of virtual GPUs only; 0 is unlicensed. */
PUBLIC Return nvmlDeviceGetGridLicensableFeatures_v4(Device device, struct licences *out) {
    PLAY();
    memset(out, 0, sizeof *out);
    out->supported = 1;
    out->count = 1;
    out->features[0].code = 1;
    out->features[0].state = out->features[0].enabled = (unsigned)value_of("licence", index_of(device), 1);
    strcpy(out->features[0].product, "stand-in");
    return SUCCESS;
}

/* ---- clocks, power, temperature ---- */

static unsigned clock_mhz(int gpu, int kind) {
    return (unsigned)(kind == 2 ? value_of("memory_clock_mhz", gpu, 3201) : value_of("sm_clock_mhz", gpu, 1980));
}

#define CLOCK(call) \
    PUBLIC Return call(Device device, int kind, unsigned *out) { \
        PLAY(); \
        *out = clock_mhz(index_of(device), kind); \
        return SUCCESS; \
    }
#define FULL_CLOCK(call, name) \
    PUBLIC Return call(Device device, int kind, unsigned *out) { \
        PLAY(); \
        *out = kind == 2 ? 3201 : (unsigned)value_of(name, index_of(device), 1980); \
        return SUCCESS; \
    }

CLOCK(nvmlDeviceGetClockInfo)
FULL_CLOCK(nvmlDeviceGetMaxClockInfo, "max_clock_mhz")
FULL_CLOCK(nvmlDeviceGetApplicationsClock, "application_clock_mhz")
FULL_CLOCK(nvmlDeviceGetDefaultApplicationsClock, "default_clock_mhz")
FULL_CLOCK(nvmlDeviceGetMaxCustomerBoostClock, "boost_clock_mhz")
READS(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, "throttle_reasons", 0)
READS(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, "throttle_reasons", 0)
READS_OF(nvmlDeviceGetTemperature, unsigned, "temperature_c", 30)
READS(nvmlDeviceGetPowerUsage, unsigned, "power_mw", 90000)

PUBLIC Return nvmlDeviceGetUtilizationRates(Device device, unsigned out[2]) {
    PLAY();
    if (mig_mode(index_of(device)) == 1)
        return NOT_SUPPORTED;
    out[0] = (unsigned)value_of("utilisation_percent", index_of(device), there(FAULT "gpu-busy") ? 100 : 0);
    out[1] = 0;
    return SUCCESS;
}

/* ---- links ---- */

READS(nvmlDeviceGetCurrPcieLinkGeneration, unsigned, "pcie_gen", 5)
READS(nvmlDeviceGetMaxPcieLinkGeneration, unsigned, "pcie_gen_max", 5)
READS(nvmlDeviceGetCurrPcieLinkWidth, unsigned, "pcie_width", 16)
READS(nvmlDeviceGetMaxPcieLinkWidth, unsigned, "pcie_width_max", 16)
READS(nvmlDeviceGetPcieReplayCounter, unsigned, "pcie_replays", 0)

struct bar1 { unsigned long long total, free, used; };

PUBLIC Return nvmlDeviceGetBAR1MemoryInfo(Device device, struct bar1 *out) {
    PLAY();
    out->total = out->free = 131072ULL << 20;
    out->used = 0;
    return SUCCESS;
}

/* As many links as a test says, all of them up but those from `nvlinks_down` on. */
PUBLIC Return nvmlDeviceGetNvLinkState(Device device, unsigned link, int *active) {
    long links = value_of("nvlinks", index_of(device), 0), up = links - value_of("nvlinks_down", index_of(device), 0);
    PLAY();
    if (link >= links)
        return link ? INVALID_ARGUMENT : NOT_SUPPORTED;
    *active = link < up;
    return SUCCESS;
}

struct fabric { unsigned char cluster[16]; Return status; unsigned clique; unsigned char state; };

/* Not supported, not started or completed: what the fabric manager has made of it. */
PUBLIC Return nvmlDeviceGetGpuFabricInfo(Device device, struct fabric *out) {
    PLAY();
    memset(out, 0, sizeof *out);
    long usual = !has_nvswitch() ? 0 : fabric_ready(loaded) ? 3 : 1;
    out->state = (unsigned char)value_of("fabric_state", index_of(device), usual);
    out->status = (Return)value_of("fabric_status", index_of(device), SUCCESS);
    return SUCCESS;
}

struct fabric_versioned {
    unsigned version;
    unsigned char cluster[16];
    Return status;
    unsigned clique;
    unsigned char state;
    unsigned health;
};

PUBLIC Return nvmlDeviceGetGpuFabricInfoV(Device device, struct fabric_versioned *out) {
    struct fabric plain;
    PLAY();
    nvmlDeviceGetGpuFabricInfo(device, &plain);
    memset(out->cluster, 0, sizeof out->cluster);
    out->status = plain.status;
    out->clique = 0;
    out->state = plain.state;
    out->health = (unsigned)value_of("fabric_health", index_of(device), 0);
    return SUCCESS;
}
