/*
 * A stand-in for NVIDIA's libnvidia-ml.so.1 on a machine without a GPU.
 *
 * Answers the calls of NVML that read a node's GPUs from the text file named by
 * DORABATCH_NVML_FILE, which is read again at every nvmlInit. One GPU a line, its
 * cells separated by TAB:
 *
 *     uuid  model  memory_mib  used_mib  utilization_percent  pid,pid,...  error
 *
 * The last two may be empty; a GPU whose error is not 0 answers every call with it
 * (15 is "GPU is lost"). A line `init-error N` lets nvmlInit itself fail with N.
 * Never touches a device and offers no call that changes anything.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_FOUND = 6, TOO_SMALL = 7 };
enum { GPUS_MAX = 64, PIDS_MAX = 16, MIB_SHIFT = 20, DRIVER_NOT_LOADED = 9 };

typedef struct {
    char uuid[80], model[96];
    unsigned long long memory, used;
    unsigned int minor, busy, pids[PIDS_MAX], pid_count;
    int error;
} gpu_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct {
    unsigned int version;
    unsigned long long total, reserved, free, used;
} memory_v2_t;
typedef struct { unsigned int gpu, memory; } rates_t;
typedef struct {
    unsigned int pid;
    unsigned long long used;
    unsigned int gpu_instance, compute_instance;
} process_t;

static gpu_t gpus[GPUS_MAX];
static unsigned int gpu_count;
static int is_started;

static void copy(char *to, size_t size, const char *from) {
    snprintf(to, size, "%s", from ? from : "");
}

static void read_gpu(char *line) {
    gpu_t *gpu = &gpus[gpu_count];
    char *cells[7] = {0}, *pid;
    for (int i = 0; i < 7; i++) cells[i] = strsep(&line, "\t");
    if (!cells[4]) return;
    memset(gpu, 0, sizeof *gpu);
    copy(gpu->uuid, sizeof gpu->uuid, cells[0]);
    copy(gpu->model, sizeof gpu->model, cells[1]);
    gpu->memory = strtoull(cells[2], NULL, 10) << MIB_SHIFT;
    gpu->used = strtoull(cells[3], NULL, 10) << MIB_SHIFT;
    gpu->busy = (unsigned int)strtoul(cells[4], NULL, 10);
    while (gpu->pid_count < PIDS_MAX && (pid = strsep(&cells[5], ",")))
        if (*pid) gpu->pids[gpu->pid_count++] = (unsigned int)strtoul(pid, NULL, 10);
    gpu->error = cells[6] ? atoi(cells[6]) : 0;
    gpu->minor = gpu_count++;
}

int nvmlInit_v2(void) {
    char line[512];
    int answer = OK;
    const char *path = getenv("DORABATCH_NVML_FILE");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return DRIVER_NOT_LOADED;
    gpu_count = 0;
    while (gpu_count < GPUS_MAX && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "init-error %d", &answer) != 1) read_gpu(line);
    }
    fclose(file);
    is_started = answer == OK;
    return answer;
}
int nvmlInit(void) { return nvmlInit_v2(); }
int nvmlInitWithFlags(unsigned int flags) { (void)flags; return nvmlInit_v2(); }
int nvmlShutdown(void) {
    if (!is_started) return UNINITIALIZED;
    is_started = 0;
    return OK;
}

int nvmlDeviceGetCount_v2(unsigned int *count) {
    if (!is_started) return UNINITIALIZED;
    *count = gpu_count;
    return OK;
}
int nvmlDeviceGetCount(unsigned int *count) { return nvmlDeviceGetCount_v2(count); }

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, gpu_t **device) {
    if (!is_started) return UNINITIALIZED;
    if (index >= gpu_count) return INVALID;
    *device = &gpus[index];
    return gpus[index].error;
}
int nvmlDeviceGetHandleByIndex(unsigned int index, gpu_t **device) {
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}
int nvmlDeviceGetHandleByUUID(const char *uuid, gpu_t **device) {
    if (!is_started) return UNINITIALIZED;
    for (unsigned int i = 0; i < gpu_count; i++)
        if (strcmp(gpus[i].uuid, uuid) == 0)
            return nvmlDeviceGetHandleByIndex_v2(i, device);
    return NOT_FOUND;
}

static int give_text(const gpu_t *gpu, const char *text, char *to, unsigned int size) {
    if (!is_started) return UNINITIALIZED;
    if (gpu && gpu->error) return gpu->error;
    if (strlen(text) >= size) return TOO_SMALL;
    copy(to, size, text);
    return OK;
}
int nvmlDeviceGetName(gpu_t *gpu, char *name, unsigned int size) {
    return gpu ? give_text(gpu, gpu->model, name, size) : INVALID;
}
int nvmlDeviceGetUUID(gpu_t *gpu, char *uuid, unsigned int size) {
    return gpu ? give_text(gpu, gpu->uuid, uuid, size) : INVALID;
}
int nvmlSystemGetDriverVersion(char *version, unsigned int size) {
    return give_text(NULL, "535.247.01", version, size);
}
int nvmlSystemGetNVMLVersion(char *version, unsigned int size) {
    return give_text(NULL, "12.535.247.01", version, size);
}

static int state_of(const gpu_t *gpu) {
    if (!is_started) return UNINITIALIZED;
    return gpu ? gpu->error : INVALID;
}
int nvmlDeviceGetMemoryInfo(gpu_t *gpu, memory_t *memory) {
    int state = state_of(gpu);
    if (state == OK) *memory = (memory_t){gpu->memory, gpu->memory - gpu->used, gpu->used};
    return state;
}
int nvmlDeviceGetMemoryInfo_v2(gpu_t *gpu, memory_v2_t *memory) {
    int state = state_of(gpu);
    if (state != OK) return state;
    memory->total = gpu->memory;
    memory->used = gpu->used;
    memory->free = gpu->memory - gpu->used;
    memory->reserved = 0;
    return OK;
}
int nvmlDeviceGetUtilizationRates(gpu_t *gpu, rates_t *rates) {
    int state = state_of(gpu);
    if (state == OK) *rates = (rates_t){gpu->busy, gpu->busy / 2};
    return state;
}

static int give_number(const gpu_t *gpu, unsigned int number, unsigned int *to) {
    int state = state_of(gpu);
    if (state == OK) *to = number;
    return state;
}
int nvmlDeviceGetTemperature(gpu_t *gpu, int sensor, unsigned int *celsius) {
    return sensor ? INVALID : give_number(gpu, gpu ? 34 + gpu->busy / 2 : 0, celsius);
}
int nvmlDeviceGetPowerUsage(gpu_t *gpu, unsigned int *milliwatts) {
    return give_number(gpu, gpu ? 30000 + gpu->busy * 2000 : 0, milliwatts);
}
int nvmlDeviceGetMinorNumber(gpu_t *gpu, unsigned int *minor) {
    return give_number(gpu, gpu ? gpu->minor : 0, minor);
}
int nvmlDeviceGetIndex(gpu_t *gpu, unsigned int *index) {
    return give_number(gpu, gpu ? gpu->minor : 0, index);
}

static int give_processes(const gpu_t *gpu, unsigned int wanted, unsigned int *count,
                          process_t *to) {
    unsigned int room = *count;
    int state = state_of(gpu);
    if (state != OK) return state;
    *count = wanted;
    if (room < wanted) return TOO_SMALL;
    for (unsigned int i = 0; i < wanted; i++)
        to[i] = (process_t){gpu->pids[i], gpu->used / wanted, ~0u, ~0u};
    return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(gpu_t *gpu, unsigned int *count, process_t *to) {
    return give_processes(gpu, gpu ? gpu->pid_count : 0, count, to);
}
int nvmlDeviceGetComputeRunningProcesses_v2(gpu_t *gpu, unsigned int *count, process_t *to) {
    return give_processes(gpu, gpu ? gpu->pid_count : 0, count, to);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(gpu_t *gpu, unsigned int *count, process_t *to) {
    return give_processes(gpu, 0, count, to);
}
int nvmlDeviceGetGraphicsRunningProcesses_v2(gpu_t *gpu, unsigned int *count, process_t *to) {
    return give_processes(gpu, 0, count, to);
}

const char *nvmlErrorString(int code) {
    switch (code) {
    case OK: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID: return "Invalid Argument";
    case NOT_FOUND: return "Not Found";
    case TOO_SMALL: return "Insufficient Size";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case 15: return "GPU is lost";
    default: return "Unknown Error";
    }
}
