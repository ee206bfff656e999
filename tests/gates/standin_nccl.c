/* A stand-in for libnccl.so.2 for the stand-in libcuda, whose device memory is this process's own: it adds up with the
   processor, between processes through a socket of the host. STANDIN_NCCL in the environment asks it to fail: hang (for
   ever while joining), crash, refuse, wrong (one bit of the sums), no-version, older (another version, which no job may
   mix with the usual one). "stand-in" is in all it says. Compiled by tests only. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

typedef struct { char internal[128]; } ncclUniqueId;
struct comm { int rank, ranks, local, peers[64]; };
static struct { const uint32_t *send; uint32_t *receive; size_t count; struct comm *comm; } queue[64];
static int queued, grouped, listener = -1;

static int play(const char *what) { const char *s = getenv("STANDIN_NCCL"); return s && !strcmp(s, what); }

static void say(const char *words) {
    const char *path = getenv("NCCL_DEBUG_FILE");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) { fprintf(file, "node7:1:2 [0] NCCL %s\n", words); fclose(file); }
}

static int joining(void) {
    say("INFO Channel 00/0 : 0[0] -> 1[1] via SHM/played");
    say("INFO Using network stand-in");
    if (play("hang")) for (;;) pause();
    if (play("crash")) abort();
    return play("refuse") ? 2 : 0;
}

int ncclGetVersion(int *version) {
    if (play("no-version")) return 3;
    *version = play("older") ? 22809 : 29901;
    return 0;
}

static int whole(int fd, void *data, size_t size, int writing) {
    char *at = data;
    while (size) {
        ssize_t done = writing ? write(fd, at, size) : read(fd, at, size);
        if (done <= 0) return -1;
        at += done, size -= (size_t)done;
    }
    return 0;
}

/* Tell a peer the own version and hear its: two versions in one job are refused by both. */
static int agree(int fd) {
    int mine, theirs;
    ncclGetVersion(&mine);
    if (whole(fd, &mine, sizeof mine, 1) || whole(fd, &theirs, sizeof theirs, 0)) return 6;
    if (mine == theirs) return 0;
    say("WARN Mismatched versions in one job (stand-in)");
    return 5;
}

static socklen_t named(struct sockaddr_un *address, const ncclUniqueId *id) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path + 1, id->internal, 60);
    return sizeof(sa_family_t) + 61;
}

const char *ncclGetErrorString(int code) { (void)code; return "stand-in error"; }
const char *ncclGetLastError(void *comm) { (void)comm; return "nobody is there (stand-in)"; }

int ncclGetUniqueId(ncclUniqueId *id) {
    struct sockaddr_un address;
    memset(id, 's', sizeof *id);
    snprintf(id->internal, 60, "standin-nccl-%d", (int)getpid());
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    return bind(listener, (struct sockaddr *)&address, named(&address, id)) || listen(listener, 64) ? 2 : 0;
}

int ncclCommInitAll(struct comm **comms, int count, const int *devices) {
    (void)devices;
    for (int i = 0; i < count; i++) {
        comms[i] = calloc(1, sizeof **comms);
        comms[i]->rank = i, comms[i]->ranks = comms[i]->local = count;
    }
    return joining();
}

int ncclCommInitRank(struct comm **out, int ranks, ncclUniqueId id, int rank) {
    struct sockaddr_un address;
    struct comm *comm = *out = calloc(1, sizeof *comm);
    int code = joining();
    comm->rank = rank, comm->ranks = ranks, comm->local = 1;
    if (code || ranks == 1) return code;
    if (rank) {
        comm->peers[0] = socket(AF_UNIX, SOCK_STREAM, 0);
        return connect(comm->peers[0], (struct sockaddr *)&address, named(&address, &id)) ? 2 : agree(comm->peers[0]);
    }
    for (int i = 1; i < ranks && !code; i++)
        code = (comm->peers[i] = accept(listener, NULL, NULL)) < 0 ? 2 : agree(comm->peers[i]);
    return code;
}

static int reduce(void) {
    size_t count = queue[0].count;
    struct comm *first = queue[0].comm;
    uint32_t *sum = calloc(count, 4), *other = calloc(count, 4);
    int bad = 0;
    for (int i = 0; i < queued; i++)
        for (size_t n = 0; n < count; n++) sum[n] += queue[i].send[n];
    if (first->ranks > first->local && first->rank)
        bad = whole(first->peers[0], sum, 4 * count, 1) || whole(first->peers[0], sum, 4 * count, 0);
    for (int i = 1; i < first->ranks && first->ranks > first->local && !first->rank && !bad; i++) {
        bad = whole(first->peers[i], other, 4 * count, 0);
        for (size_t n = 0; n < count; n++) sum[n] += other[n];
    }
    for (int i = 1; i < first->ranks && first->ranks > first->local && !first->rank && !bad; i++)
        bad = whole(first->peers[i], sum, 4 * count, 1);
    if (play("wrong")) sum[count - 1] ^= 1;
    for (int i = 0; i < queued; i++) memcpy(queue[i].receive, sum, 4 * count);
    free(sum), free(other);
    queued = 0;
    return bad ? 6 : 0;
}

int ncclGroupStart(void) { grouped++; return 0; }
int ncclGroupEnd(void) { return !--grouped && queued ? reduce() : 0; }

int ncclAllReduce(const void *send, void *receive, size_t count, int type, int operation, struct comm *comm, void *stream) {
    (void)stream;
    if (type != 2 || operation || queued == 64) return 4;
    queue[queued].send = send, queue[queued].receive = receive;
    queue[queued].count = count, queue[queued++].comm = comm;
    return grouped ? 0 : reduce();
}

int ncclCommGetAsyncError(struct comm *comm, int *code) { (void)comm; *code = 0; return 0; }
int ncclCommDestroy(struct comm *comm) { free(comm); return 0; }
int ncclCommAbort(struct comm *comm) { free(comm); return 0; }
