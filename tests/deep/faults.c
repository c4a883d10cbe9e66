/* Runs a program as the script `faults` asks for it: one of its system calls fails, at the first time, at a later one, or
 * again and again; or those that move bytes move 1 to 7 of them. Then it tells what the program did and left behind.
 *
 *   faults REPORT CALL ERRNO FIRST STEP FLAGS -- PROGRAM ARGUMENTS
 *
 * The FIRST call of that name fails, counted from 1, and then every STEP-th (0: none). Each thread of the program counts,
 * and so does a child until it executes another program: up to there it runs code of ours. What the program does before its
 * `main` is left alone: main begins after the standard library has made the stack for signal handlers.
 *
 * FLAGS: `s` short reads and writes, and connections with the least buffers, `o` the standard streams are left alone (the one for errors always is), `c` the call is carried out before its result is
 * replaced. `-` is none of them. SIGUSR1 ends all faults.
 *
 * It is done by ptrace(2) and a seccomp(2) filter, so that calls nobody asks about run at their full speed. Unlike strace's
 * injection it counts over all threads, leaves the programs that children execute in peace, and does not skip a `close`.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __x86_64__
int main(void) {
    fputs("the registers of this architecture are not known\n", stderr);
    return 77;
}
#else

#define CALLS(X)                                                                                                     \
    X(accept4) X(bind) X(clone3) X(close) X(connect) X(copy_file_range) X(dup2) X(dup3) X(epoll_create1) X(epoll_ctl)  \
    X(epoll_pwait2) X(epoll_wait) X(eventfd2) X(execve) X(exit_group) X(fcntl) X(getdents64) X(getpeername) X(getpgid) \
    X(getsockname) X(getsockopt) X(ioctl) X(kill) X(listen) X(newfstatat) X(openat) X(pidfd_open)                      \
    X(pidfd_send_signal) X(pipe2) X(poll) X(prctl) X(prlimit64) X(read) X(readlink) X(readv) X(recvfrom) X(recvmsg)    \
    X(rt_sigaction) X(rt_sigprocmask) X(rt_sigtimedwait) X(sched_getaffinity) X(sendfile) X(sendmsg) X(sendto)         \
    X(setpgid) X(setsockopt) X(shutdown) X(sigaltstack) X(signalfd4) X(socket) X(socketpair) X(splice) X(statx)        \
    X(timerfd_create) X(timerfd_settime) X(unlink) X(unlinkat) X(vfork) X(wait4) X(waitid) X(write) X(writev)

#define ROW(name) {#name, SYS_##name, 0},
static struct {
    const char *name;
    long number;
    long count;
} calls[] = {CALLS(ROW)};
enum { CALL_COUNT = sizeof calls / sizeof *calls };

/* Ours: threads of the program. A fork is ours until it executes something. */
enum kind { STRANGER, OURS, FORK };
static struct thread {
    pid_t tid;
    enum kind kind;
    int replace; /* the error that takes the place of the result of the call that runs */
} threads[4096];
static int thread_count;

static pid_t program;
static FILE *report;
static long wanted = -1, first, step, seen, injected, clamped;
static int error;
static int short_moves, spare_standard, carry_out;
static int begun;
static volatile sig_atomic_t over;

static void end_faults(int number) {
    (void)number;
    over = 1;
}

static void give_up(const char *what) {
    int refused = errno == EPERM || errno == EACCES || errno == ENOSYS;
    perror(what);
    exit(refused ? 77 : 1);
}

/* ptrace events come for every call of the table, and nothing else is slowed down. */
static void install_filter(void) {
    struct sock_filter code[4 + 2 * CALL_COUNT + 1];
    int n = 0;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < CALL_COUNT; i++) {
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i].number, 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog filter = {.len = (unsigned short)n, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
        give_up("seccomp");
}

static int from_status(pid_t tid, const char *field) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", tid);
    FILE *file = fopen(path, "re");
    int value = -1;
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, field, strlen(field)))
            value = atoi(line + strlen(field));
    if (file)
        fclose(file);
    return value;
}

static struct thread *find(pid_t tid) {
    for (int i = 0; i < thread_count; i++)
        if (threads[i].tid == tid)
            return &threads[i];
    if (thread_count == sizeof threads / sizeof *threads)
        give_up("too many threads");
    struct thread *new = &threads[thread_count++];
    *new = (struct thread){.tid = tid, .kind = STRANGER};
    if (from_status(tid, "Tgid:") == program)
        new->kind = OURS;
    else if (from_status(tid, "PPid:") == program)
        new->kind = FORK;
    return new;
}

static void forget(pid_t tid) {
    for (int i = 0; i < thread_count; i++)
        if (threads[i].tid == tid)
            threads[i] = threads[--thread_count];
}

/* The threads that have not ended: who is dead waits for us to look. */
static int count_threads(void) {
    char path[320], line[256];
    snprintf(path, sizeof path, "/proc/%d/task", program);
    DIR *directory = opendir(path);
    int count = 0;
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        snprintf(path, sizeof path, "/proc/%d/task/%s/stat", program, entry->d_name);
        FILE *stat = fopen(path, "r");
        char *name_end = stat && fgets(line, sizeof line, stat) ? strrchr(line, ')') : NULL;
        count += name_end && !strchr("ZX", name_end[2]);
        if (stat)
            fclose(stat);
    }
    if (directory)
        closedir(directory);
    return count;
}

/* One that has been joined may still be on its way out. */
static int threads_left(void) {
    int count = count_threads();
    for (int i = 0; count > 1 && i < 20; i++) {
        usleep(1000);
        count = count_threads();
    }
    return count;
}

/* What is left when the program ends: its descriptors, threads, and the children that it has not reaped. */
static void tell_what_is_left(void) {
    char path[64], target[256];
    fprintf(report, "threads %d\n", threads_left());
    for (int fd = 0; fd < 256; fd++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", program, fd);
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length > 0)
            fprintf(report, "fd %d %.*s\n", fd, (int)length, target);
    }
    DIR *processes = opendir("/proc");
    for (struct dirent *entry; processes && (entry = readdir(processes));)
        if (atoi(entry->d_name) > 0 && from_status(atoi(entry->d_name), "PPid:") == program)
            fprintf(report, "child %s\n", entry->d_name);
    if (processes)
        closedir(processes);
}

/* Whether the program has both ends of a pipe. What it alone writes there, it may know to come whole. */
static int has_both_ends(int fd) {
    char path[64], target[256], other[256];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", program, fd);
    ssize_t length = readlink(path, target, sizeof target);
    int ends = 0;
    for (int i = 0; length > 0 && i < 256; i++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", program, i);
        struct stat how;
        if (readlink(path, other, sizeof other) == length && !memcmp(target, other, (size_t)length) && !lstat(path, &how))
            ends |= (how.st_mode & S_IRUSR ? 1 : 0) | (how.st_mode & S_IWUSR ? 2 : 0);
    }
    return ends == 3;
}

/* Whether reads and writes cannot fail: eventfds and the like, which do not block, and a pipe from the program to itself. */
static int is_safe(int fd) {
    char path[64], target[256] = "";
    snprintf(path, sizeof path, "/proc/%d/fd/%d", program, fd);
    if (readlink(path, target, sizeof target - 1) < 0)
        return 0;
    return !strncmp(target, "anon_inode:", 11) || (!strncmp(target, "pipe:", 5) && has_both_ends(fd));
}

/* Asks the kernel about a socket of the program, or tells it. */
static int of_socket(int fd, int option, int *value, int tell) {
    int process = (int)syscall(SYS_pidfd_open, program, 0);
    int socket = (int)syscall(SYS_pidfd_getfd, process, fd, 0);
    socklen_t length = sizeof *value;
    int failed = tell ? setsockopt(socket, SOL_SOCKET, option, value, length)
                      : getsockopt(socket, SOL_SOCKET, option, value, &length);
    close(socket);
    close(process);
    return !failed;
}

static int is_inet(int fd) {
    int domain = 0;
    return of_socket(fd, SO_DOMAIN, &domain, 0) && domain != AF_UNIX;
}

/* Gives a connection the least buffers there are, before it is made. Its reads and writes are left to the kernel: one of TCP
 * that stops short says that there is no more for now (epoll(7)), which only the kernel can know. */
static void shrink_buffers(int fd) {
    int type = 0, least = 1;
    if (!of_socket(fd, SO_TYPE, &type, 0) || type != SOCK_STREAM)
        return;
    of_socket(fd, SO_SNDBUF, &least, 1);
    of_socket(fd, SO_RCVBUF, &least, 1);
}

/* Whether a shorter read or write is as good: a datagram, or a counter, is read whole or not. */
static int is_stream(int fd) {
    char path[64];
    struct stat what;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", program, fd);
    if (stat(path, &what))
        return 0;
    if (S_ISFIFO(what.st_mode))
        return !has_both_ends(fd);
    if (!S_ISSOCK(what.st_mode))
        return S_ISREG(what.st_mode) || S_ISCHR(what.st_mode);
    int type = 0;
    return of_socket(fd, SO_TYPE, &type, 0) && type == SOCK_STREAM && !is_inet(fd);
}

/* Changes the call so that it moves 1 to 7 bytes, and says truly that it did. */
static int clamp(pid_t tid, struct user_regs_struct *regs) {
    unsigned long most = 1 + (unsigned long)clamped % 7, *count;
    int fd = (int)regs->rdi;
    switch (regs->orig_rax) {
    case SYS_read:
    case SYS_write:
    case SYS_recvfrom:
    case SYS_sendto:
        count = (unsigned long *)&regs->rdx;
        break;
    case SYS_sendfile:
        if (is_inet(fd))
            return 0;
        count = (unsigned long *)&regs->r10;
        break;
    case SYS_splice:
        if (is_inet(fd) || is_inet((int)regs->rdx))
            return 0;
        count = (unsigned long *)&regs->r8;
        fd = -1;
        break;
    case SYS_readv:
    case SYS_writev: {
        struct iovec part, here = {&part, sizeof part}, there = {(void *)regs->rsi, sizeof part};
        if (regs->rdx == 0 || process_vm_readv(tid, &here, 1, &there, 1, 0) != sizeof part || part.iov_len == 0)
            return 0;
        if (!is_stream(fd))
            return 0;
        regs->orig_rax = regs->orig_rax == SYS_readv ? SYS_read : SYS_write;
        regs->rsi = (unsigned long)part.iov_base;
        regs->rdx = part.iov_len < most ? part.iov_len : most;
        return 1;
    }
    default:
        return 0;
    }
    if (*count <= most || (fd >= 0 && !is_stream(fd)))
        return 0;
    *count = most;
    return 1;
}

static int is_due(void) {
    seen++;
    return !over && (seen == first || (step && seen > first && (seen - first) % step == 0));
}

/* Sees to a call that is about to be made; returns how to go on. */
static int at_call(struct thread *thread) {
    struct user_regs_struct regs;
    if (thread->kind == STRANGER || ptrace(PTRACE_GETREGS, thread->tid, 0, &regs))
        return PTRACE_CONT;
    long number = (long)regs.orig_rax;
    if (number == SYS_sigaltstack && thread->tid == program && regs.rdi)
        begun = 1;
    if (number == SYS_exit_group && thread->kind == OURS)
        tell_what_is_left();
    if (!begun)
        return PTRACE_CONT;
    int moves = number == SYS_write || number == SYS_read || number == SYS_writev || number == SYS_readv;
    if (moves && (regs.rdi == 2 || (spare_standard && regs.rdi < 2) || is_safe((int)regs.rdi)))
        return PTRACE_CONT;
    for (int i = 0; i < CALL_COUNT; i++)
        calls[i].count += calls[i].number == number;
    if (short_moves && !over && (number == SYS_listen || number == SYS_connect))
        shrink_buffers((int)regs.rdi);
    if (short_moves && !over && thread->kind == OURS && clamp(thread->tid, &regs)) {
        clamped++;
        ptrace(PTRACE_SETREGS, thread->tid, 0, &regs);
    }
    if (number != wanted || !is_due())
        return PTRACE_CONT;
    injected++;
    if (carry_out) {
        thread->replace = error;
        return PTRACE_SYSCALL;
    }
    regs.orig_rax = -1UL;
    regs.rax = (unsigned long)-(long)error;
    ptrace(PTRACE_SETREGS, thread->tid, 0, &regs);
    return PTRACE_CONT;
}

static void after_call(struct thread *thread) {
    struct user_regs_struct regs;
    if (thread->replace && !ptrace(PTRACE_GETREGS, thread->tid, 0, &regs)) {
        regs.rax = (unsigned long)-(long)thread->replace;
        ptrace(PTRACE_SETREGS, thread->tid, 0, &regs);
    }
    thread->replace = 0;
}

static void on_stop(pid_t tid, int status) {
    struct thread *thread = find(tid);
    int signal = WSTOPSIG(status), event = status >> 16, how = PTRACE_CONT, deliver = 0;
    if (event == PTRACE_EVENT_SECCOMP)
        how = at_call(thread);
    else if (event == PTRACE_EVENT_EXEC)
        thread->kind = tid == program ? OURS : STRANGER;
    else if (event == PTRACE_EVENT_STOP)
        how = signal == SIGTRAP ? PTRACE_CONT : PTRACE_LISTEN;
    else if (signal == (SIGTRAP | 0x80))
        after_call(thread);
    else if (!event)
        deliver = signal;
    /* Whoever was killed meanwhile is not there any more, and its end is told. */
    ptrace(how, tid, 0, deliver);
}

static void tell(int status, const struct rusage *usage) {
    if (WIFSIGNALED(status))
        fprintf(report, "signal %d\n", WTERMSIG(status));
    else
        fprintf(report, "status %d\n", WEXITSTATUS(status));
    long microseconds = (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000L;
    fprintf(report, "cpu %ld\n", microseconds + usage->ru_utime.tv_usec + usage->ru_stime.tv_usec);
    fprintf(report, "begun %d\ninjected %ld\nclamped %ld\n", begun, injected, clamped);
    for (int i = 0; i < CALL_COUNT; i++)
        if (calls[i].count)
            fprintf(report, "call %s %ld\n", calls[i].name, calls[i].count);
}

static void start(char **arguments) {
    int go[2];
    if (pipe2(go, O_CLOEXEC))
        give_up("pipe2");
    program = fork();
    if (program == 0) {
        char byte;
        close(go[1]); /* It waits for a parent that may have given up. */
        if (read(go[0], &byte, 1) != 1)
            _exit(1);
        install_filter();
        execv(*arguments, arguments);
        give_up(*arguments);
    }
    long options = PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC |
                   PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD;
    if (ptrace(PTRACE_SEIZE, program, 0, options))
        give_up("ptrace");
    if (write(go[1], "", 1) != 1)
        give_up("write");
    close(go[0]);
    close(go[1]);
}

int main(int argc, char **argv) {
    if (argc < 9)
        return 2;
    if (!(report = fopen(argv[1], "we")))
        give_up(argv[1]);
    for (int i = 0; i < CALL_COUNT; i++)
        if (!strcmp(calls[i].name, argv[2]))
            wanted = calls[i].number;
    error = atoi(argv[3]), first = atol(argv[4]), step = atol(argv[5]);
    short_moves = !!strchr(argv[6], 's'), spare_standard = !!strchr(argv[6], 'o'), carry_out = !!strchr(argv[6], 'c');
    if (wanted < 0 && strcmp(argv[2], "-"))
        return fprintf(stderr, "no call of the name %s is known\n", argv[2]), 2;
    struct sigaction action = {.sa_handler = end_faults, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    start(argv + 8);
    fprintf(report, "pid %d\n", program);
    fflush(report);
    for (;;) {
        int status;
        struct rusage usage;
        pid_t tid = wait4(-1, &status, __WALL, &usage);
        if (tid < 0)
            give_up("wait4");
        if (WIFSTOPPED(status)) {
            on_stop(tid, status);
            continue;
        }
        forget(tid);
        if (tid == program) {
            tell(status, &usage);
            int refused = !begun && WIFEXITED(status) && WEXITSTATUS(status) == 77;
            return fclose(report) ? 1 : refused ? 77 : 0; /* Whoever is left dies with us. */
        }
    }
}
#endif
