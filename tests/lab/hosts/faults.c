/*
 * Copyright: nordic.gitops contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Faults of a host's hardware, for programs that use its C library: a slow disk and a wrong clock.
 * Loaded by /etc/ld.so.preload; /etc/lab-faults holds "fsync_ms 60" or "clock_seconds -600", a line each, read when a program starts.
 *
 * It calls the kernel by syscall() alone, which every glibc has under one version: what is compiled here also loads in the hosts.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long fsync_ms, clock_seconds;

static long number_after(const char *text, const char *name)
{
    for (const char *line = text; *line; line++) {
        if (line != text && line[-1] != '\n')
            continue;
        const char *at = line, *letter = name;
        while (*letter && *at == *letter)
            at++, letter++;
        if (*letter || *at++ != ' ')
            continue;
        long sign = 1, value = 0;
        if (*at == '-')
            sign = -1, at++;
        while (*at >= '0' && *at <= '9')
            value = value * 10 + (*at++ - '0');
        return sign * value;
    }
    return 0;
}

__attribute__((constructor)) static void read_faults(void)
{
    char text[256] = "";
    int file = syscall(SYS_openat, AT_FDCWD, "/etc/lab-faults", O_RDONLY | O_CLOEXEC, 0);
    if (file < 0)
        return;
    long length = syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    text[length > 0 ? length : 0] = 0;
    fsync_ms = number_after(text, "fsync_ms");
    clock_seconds = number_after(text, "clock_seconds");
}

static void wait_for_the_disk(void)
{
    struct timespec pause = { fsync_ms / 1000, fsync_ms % 1000 * 1000000 };
    if (fsync_ms > 0)
        syscall(SYS_nanosleep, &pause, 0);
}

int fsync(int file)
{
    wait_for_the_disk();
    return syscall(SYS_fsync, file);
}

int fdatasync(int file)
{
    wait_for_the_disk();
    return syscall(SYS_fdatasync, file);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += clock_seconds;
    return result;
}

int gettimeofday(struct timeval *now, void *zone)
{
    int result = syscall(SYS_gettimeofday, now, zone);
    if (result == 0)
        now->tv_sec += clock_seconds;
    return result;
}

time_t time(time_t *where)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where)
        *where = now.tv_sec;
    return now.tv_sec;
}
