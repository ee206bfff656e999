/* Stand-in libcuda.so.1, memory and copies: a device's memory is the host's, and a copy is done when its call returns. */
#include "cuda.h"

struct block { unsigned char *start; size_t size; struct block *next; };
static struct block *blocks;
static size_t allocated;

int mapped(Pointer address, size_t size) {
    for (struct block *b = blocks; b; b = b->next)
        if (address >= (Pointer)(uintptr_t)b->start && address + size <= (Pointer)(uintptr_t)(b->start + b->size))
            return 1;
    return 0;
}

PUBLIC int cuMemAlloc_v2(Pointer *out, size_t size) {
    PLAY();
    if (!current)
        return INVALID_CONTEXT;
    if (!size)
        return INVALID_VALUE;
    struct block *b = malloc(sizeof *b);
    b->start = allocated + size > own_memory_bytes() ? NULL : malloc(size);
    if (!b->start) {
        free(b);
        return OUT_OF_MEMORY;
    }
    memset(b->start, 0xcd, size);       /* fresh device memory holds nothing useful */
    b->size = size;
    b->next = blocks;
    blocks = b;
    allocated += size;
    *out = (Pointer)(uintptr_t)b->start;
    return SUCCESS;
}

PUBLIC int cuMemFree_v2(Pointer address) {
    PLAY();
    for (struct block **link = &blocks; *link; link = &(*link)->next)
        if ((Pointer)(uintptr_t)(*link)->start == address) {
            struct block *gone = *link;
            *link = gone->next;
            allocated -= gone->size;
            free(gone->start);
            free(gone);
            return SUCCESS;
        }
    return INVALID_VALUE;
}

PUBLIC int cuMemGetInfo_v2(size_t *available, size_t *total) {
    PLAY();
    *total = own_memory_bytes();
    *available = *total > allocated ? *total - allocated : 0;
    return current ? SUCCESS : INVALID_CONTEXT;
}

PUBLIC int cuMemsetD8_v2(Pointer to, unsigned char value, size_t count) {
    PLAY();
    if (!mapped(to, count))
        return INVALID_VALUE;
    memset((void *)(uintptr_t)to, value, count);
    count_work(MEMORY, (double)count);
    return SUCCESS;
}

PUBLIC int cuMemsetD32_v2(Pointer to, unsigned value, size_t count) {
    PLAY();
    if (!mapped(to, count * 4))
        return INVALID_VALUE;
    for (size_t i = 0; i < count; i++)
        ((uint32_t *)(uintptr_t)to)[i] = value;
    count_work(MEMORY, 4.0 * (double)count);
    return SUCCESS;
}

/* Copy, and count it as work of one link; `from` and `to` are checked where they are a device's. */
static int transfer(void *to, const void *from, size_t size, int check_to, int check_from, enum rate rate) {
    struct timespec since;
    clock_gettime(CLOCK_MONOTONIC, &since);
    if (sticky)
        return sticky;
    if ((check_to && !mapped((Pointer)(uintptr_t)to, size)) || (check_from && !mapped((Pointer)(uintptr_t)from, size)))
        return INVALID_VALUE;
    memmove(to, from, size);
    count_work(rate, rate == MEMORY ? 2.0 * (double)size : (double)size);
    take_at_least(&since, 100);
    return SUCCESS;
}

#define AT(address) ((void *)(uintptr_t)(address))

PUBLIC int cuMemcpyHtoD_v2(Pointer to, const void *from, size_t size) {
    PLAY();
    return transfer(AT(to), from, size, 1, 0, HOST_LINK);
}

PUBLIC int cuMemcpyDtoH_v2(void *to, Pointer from, size_t size) {
    PLAY();
    return transfer(to, AT(from), size, 0, 1, HOST_LINK);
}

PUBLIC int cuMemcpyDtoD_v2(Pointer to, Pointer from, size_t size) {
    PLAY();
    return transfer(AT(to), AT(from), size, 1, 1, MEMORY);
}

PUBLIC int cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t size, void *stream) {
    (void)stream;
    PLAY();
    return transfer(AT(to), from, size, 1, 0, HOST_LINK);
}

PUBLIC int cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t size, void *stream) {
    (void)stream;
    PLAY();
    return transfer(to, AT(from), size, 0, 1, HOST_LINK);
}

PUBLIC int cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t size, void *stream) {
    (void)stream;
    PLAY();
    return transfer(AT(to), AT(from), size, 1, 1, MEMORY);
}

/* ---- page-locked memory of the host ---- */

PUBLIC int cuMemHostAlloc(void **out, size_t size, unsigned flags) {
    (void)flags;
    PLAY();
    if (!current)
        return INVALID_CONTEXT;
    return (*out = size ? malloc(size) : NULL) ? SUCCESS : size ? OUT_OF_MEMORY : INVALID_VALUE;
}

PUBLIC int cuMemAllocHost_v2(void **out, size_t size) { return cuMemHostAlloc(out, size, 0); }

PUBLIC int cuMemFreeHost(void *address) {
    PLAY();
    free(address);
    return SUCCESS;
}

/* ---- peers: every GPU reaches every other one, but for what a test hides ---- */

static unsigned char enabled[DEVICES_MAX][DEVICES_MAX];

PUBLIC int cuDeviceCanAccessPeer(int *can, int device, int peer) {
    PLAY_ON(device);
    if (bad_device(device) || bad_device(peer))
        return bad_device(device) ? bad_device(device) : bad_device(peer);
    *can = device != peer && !value_of("hidden_from_peers", visible[device], 0)
           && !value_of("hidden_from_peers", visible[peer], 0);
    return SUCCESS;
}

PUBLIC int cuDeviceGetP2PAttribute(int *value, int attribute, int device, int peer) {
    int bad = cuDeviceCanAccessPeer(value, device, peer);
    if (!bad && attribute == 1)
        *value = 0;     /* the rank of the link: none is slower than another */
    return bad;
}

PUBLIC int cuCtxEnablePeerAccess(struct context *peer, unsigned flags) {
    int can = 0;
    PLAY();
    if (!current || !peer)
        return INVALID_CONTEXT;
    if (flags)
        return INVALID_VALUE;
    int bad = cuDeviceCanAccessPeer(&can, current->device, peer->device);
    if (bad || !can)
        return bad ? bad : PEER_ACCESS_UNSUPPORTED;
    if (enabled[current->device][peer->device])
        return PEER_ACCESS_ALREADY_ENABLED;
    enabled[current->device][peer->device] = 1;
    return SUCCESS;
}

PUBLIC int cuCtxDisablePeerAccess(struct context *peer) {
    PLAY();
    if (!current || !peer)
        return INVALID_CONTEXT;
    if (!enabled[current->device][peer->device])
        return 705;     /* CUDA_ERROR_PEER_ACCESS_NOT_ENABLED */
    enabled[current->device][peer->device] = 0;
    return SUCCESS;
}

PUBLIC int cuMemcpyPeer(Pointer to, struct context *target, Pointer from, struct context *source, size_t size) {
    PLAY();
    if (!target || !source)
        return INVALID_CONTEXT;
    int bad = transfer(AT(to), AT(from), size, 1, 1, PEER_LINK);
    if (!bad)
        spoil("peer-copy", visible[target->device], AT(to), size / 4);
    return bad;
}

PUBLIC int cuMemcpyPeerAsync(Pointer to, struct context *target, Pointer from, struct context *source, size_t size,
                             void *stream) {
    (void)stream;
    return cuMemcpyPeer(to, target, from, source, size);
}
