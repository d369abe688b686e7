/* The least that a container costs on this kernel: one process that makes cgroups, clones into new namespaces, mounts, drops
 * rights, executes, waits and clears away, with nothing checked, looked up or kept. What any runtime takes more is its own.
 *
 * floor ROOT SCRATCH RUNS IDLE_MS plain|layered: executes /stamp of ROOT (stamp.c) and prints two medians in milliseconds: to the
 * first statement of its main, and to the end of it all. layered: an overlay as the root, and 400 instructions of seccomp.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST 16
static char hierarchies[MOST][256];
static int count, unified;

static void die(const char *what) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    _exit(1);
}

static void find_hierarchies(void) {
    FILE *mounts = fopen("/proc/self/mounts", "r");
    char on[256], kind[64], v2[256] = "";
    while (mounts && fscanf(mounts, "%*s %255s %63s %*[^\n]", on, kind) == 2) {
        if (!strcmp(kind, "cgroup") && count < MOST)
            strcpy(hierarchies[count++], on);
        else if (!strcmp(kind, "cgroup2"))
            strcpy(v2, on);
    }
    if (mounts)
        fclose(mounts);
    if (!count && *v2) {
        strcpy(hierarchies[count++], v2);
        unified = 1;
    }
    if (!count) {
        errno = ENOENT;
        die("cgroups");
    }
}

static void cgroup(char *to, int at) {
    snprintf(to, 320, "%s/corbench-floor-%d", hierarchies[at], getpid());
}

static int put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    int bad = fd < 0 || write(fd, text, strlen(text)) < 0;
    if (fd >= 0)
        close(fd);
    return bad;
}

/* A new folder of cpuset's holds no CPU and takes no process. */
static void like_its_parent(const char *folder, const char *parent, const char *file) {
    char path[400], text[256];
    snprintf(path, sizeof path, "%s/%s", parent, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    text[length > 0 ? length : 0] = 0;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    put(path, text);
}

static void confine(int layered) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    /* Docker's fourteen. */
    const uint64_t kept = 0xa80425fb;
    struct __user_cap_data_struct data[2] = {{(uint32_t)kept, (uint32_t)kept, 0}, {0, 0, 0}};
    for (int one = 0; prctl(PR_CAPBSET_READ, one, 0, 0, 0) >= 0; one++)
        if (!(kept >> one & 1))
            prctl(PR_CAPBSET_DROP, one, 0, 0, 0);
    if (syscall(SYS_capset, &head, data))
        die("capset");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        die("no_new_privs");
    if (!layered)
        return;
    struct sock_filter code[402];
    int at = 0;
    code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0);
    for (int one = 0; one < 200; one++) {
        code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1000 + one, 0, 1);
        code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    }
    code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {at, code};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0))
        die("seccomp");
}

static void child(const char *root, const char *scratch, int layered, int out) {
    char path[400], options[1024];
    dup2(out, 1);
    for (int at = 0; !unified && at < count; at++) {
        snprintf(path, 320, "%s/corbench-floor-%d/tasks", hierarchies[at], atoi(getenv("FLOOR")));
        if (put(path, "0"))
            die(path);
    }
    if (unshare(CLONE_NEWCGROUP))
        die("cgroup namespace");
    if (mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL))
        die("private");
    if (layered) {
        snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work", root, scratch, scratch);
        snprintf(path, sizeof path, "%s/merged", scratch);
        if (mount("overlay", path, "overlay", 0, options))
            die("overlay");
        root = path;
    } else if (mount(root, root, NULL, MS_BIND | MS_REC, NULL))
        die("bind");
    if (chdir(root) || mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
        die("proc");
    if (syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH))
        die("pivot_root");
    sethostname("floor", 5);
    confine(layered);
    char *const args[] = {"stamp", "once", NULL}, *const env[] = {NULL};
    execve("/stamp", args, env);
    die("execve");
}

/* Milliseconds: to the first statement of main, to the end. */
struct took {
    double to_main, to_end;
};

static struct took once(const char *root, const char *scratch, int layered) {
    struct timespec start, end;
    int out[2];
    if (pipe2(out, O_CLOEXEC))
        die("pipe");
    clock_gettime(CLOCK_MONOTONIC, &start);
    char path[320];
    int into = -1;
    for (int at = 0; at < count; at++) {
        cgroup(path, at);
        if (mkdir(path, 0755))
            die(path);
        if (unified)
            into = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        else {
            like_its_parent(path, hierarchies[at], "cpuset.cpus");
            like_its_parent(path, hierarchies[at], "cpuset.mems");
        }
    }
    struct clone_args how = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | (unified ? CLONE_INTO_CGROUP : 0),
        .exit_signal = SIGCHLD,
        .cgroup = unified ? (uint64_t)into : 0,
    };
    pid_t pid = syscall(SYS_clone3, &how, sizeof how);
    if (pid < 0)
        die("clone3");
    if (!pid)
        child(root, scratch, layered, out[1]);
    int status;
    int ended = waitpid(pid, &status, 0) == pid && !status;
    if (into >= 0)
        close(into);
    for (int at = 0; at < count; at++) {
        cgroup(path, at);
        while (rmdir(path))
            if (errno != EBUSY)
                die(path);
    }
    if (!ended) {
        errno = ECHILD;
        die("the container's process did not end well");
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    char said[64] = "";
    long long stamp;
    if (read(out[0], said, sizeof said - 1) < 0 || sscanf(said, "stamp %lld", &stamp) != 1)
        die("stamp");
    close(out[0]);
    close(out[1]);
    return (struct took){
        (stamp - start.tv_sec * 1000000000LL - start.tv_nsec) / 1e6,
        (end.tv_sec - start.tv_sec) * 1e3 + (end.tv_nsec - start.tv_nsec) / 1e6,
    };
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: floor ROOT SCRATCH RUNS IDLE_MS plain|layered\n");
        return 2;
    }
    int runs = atoi(argv[3]), idle = atoi(argv[4]), layered = !strcmp(argv[5], "layered");
    double *to_main = calloc(runs > 0 ? runs : 1, sizeof *to_main);
    double *to_end = calloc(runs > 0 ? runs : 1, sizeof *to_end);
    char number[16];
    snprintf(number, sizeof number, "%d", getpid());
    setenv("FLOOR", number, 1);
    find_hierarchies();
    for (int run = 0; run < runs; run++) {
        usleep(idle * 1000);
        struct took took = once(argv[1], argv[2], layered);
        to_main[run] = took.to_main;
        to_end[run] = took.to_end;
    }
    qsort(to_main, runs, sizeof *to_main, ascending);
    qsort(to_end, runs, sizeof *to_end, ascending);
    printf("%.3f %.3f\n", to_main[runs / 2], to_end[runs / 2]);
    return 0;
}
