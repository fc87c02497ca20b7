/* A V4L2 camera for tests, preloaded (LD_PRELOAD) into the process that uses it: no machine without
 * a camera can run the real driver. Whatever opens $STAND_IN gets a device that streams the JPEG
 * file $STAND_IN_JPEG, as the V4L2 documentation says that a driver does it:
 *
 *   $STAND_IN_GRANTS   "FOURCC WIDTH HEIGHT FPS": what it gives whatever is asked ("": as asked)
 *   $STAND_IN_BUSY     set: another program streams from it
 *   $STAND_IN_NODE     "metadata": this node gives no pictures
 *   $STAND_IN_STALL    a file: while it exists, no frame comes
 *
 * It is unplugged while nothing is at $STAND_IN. A frame that comes while no buffer is queued is lost.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#define MOST 16
#define SIZE (1 << 20)
#define NS 1000000000LL

static int device = -1, buffers, streaming;
static char *memory[MOST];
static int queued[MOST], queue_length, done[MOST], done_length;
static long long stamps[MOST], next_due;
static unsigned fourcc, width = 640, height = 480, fps = 30;
static long jpeg_size;

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS + t.tv_nsec;
}

static int gone(void) { return access(getenv("STAND_IN"), F_OK) != 0; }

static int stalled(void) {
    const char *file = getenv("STAND_IN_STALL");
    return file && access(file, F_OK) == 0;
}

static int shift(int *items, int *length) {
    int first = items[0];
    memmove(items, items + 1, --*length * sizeof *items);
    return first;
}

/* What the camera did until now. */
static void advance(void) {
    for (; streaming && next_due <= now(); next_due += NS / fps) {
        if (stalled() || !queue_length) continue;
        int index = shift(queued, &queue_length);
        stamps[index] = next_due;
        done[done_length++] = index;
    }
}

static void grant(struct v4l2_format *format) {
    char name[5] = "";
    const char *grants = getenv("STAND_IN_GRANTS");
    struct v4l2_pix_format *pix = &format->fmt.pix;
    fourcc = pix->pixelformat, width = pix->width, height = pix->height;
    if (grants && sscanf(grants, "%4s %u %u", name, &width, &height) == 3)
        fourcc = v4l2_fourcc(name[0], name[1], name[2], name[3]);
    pix->pixelformat = fourcc, pix->width = width, pix->height = height;
    pix->bytesperline = width * 2, pix->sizeimage = SIZE;
}

static void rate(struct v4l2_streamparm *parm, int set) {
    const char *grants = getenv("STAND_IN_GRANTS");
    if (set) fps = parm->parm.capture.timeperframe.denominator;
    if (grants) sscanf(grants, "%*s %*u %*u %u", &fps);
    parm->parm.capture.timeperframe.numerator = 1;
    parm->parm.capture.timeperframe.denominator = fps;
}

static int fail(int error) {
    errno = error;
    return -1;
}

static int dequeue(struct v4l2_buffer *buffer) {
    advance();
    if (!done_length) return fail(EAGAIN);
    int index = shift(done, &done_length);
    buffer->index = index;
    buffer->length = SIZE;
    buffer->bytesused = jpeg_size;
    buffer->timestamp.tv_sec = stamps[index] / NS;
    buffer->timestamp.tv_usec = stamps[index] % NS / 1000;
    buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    return 0;
}

static int control(unsigned long request, void *argument) {
    const char *node = getenv("STAND_IN_NODE");
    if (gone()) return fail(ENODEV);
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *capability = argument;
        memset(capability, 0, sizeof *capability);
        capability->device_caps = V4L2_CAP_STREAMING
            | (node && *node ? V4L2_CAP_META_CAPTURE : V4L2_CAP_VIDEO_CAPTURE);
        capability->capabilities = V4L2_CAP_DEVICE_CAPS | V4L2_CAP_VIDEO_CAPTURE
            | V4L2_CAP_META_CAPTURE | V4L2_CAP_STREAMING;
        return 0;
    }
    case VIDIOC_G_FMT:
        ((struct v4l2_format *)argument)->fmt.pix.pixelformat = V4L2_PIX_FMT_YUYV;
        return 0;
    case VIDIOC_S_FMT:
        if (getenv("STAND_IN_BUSY")) return fail(EBUSY);
        grant(argument);
        return 0;
    case VIDIOC_G_PARM: rate(argument, 0); return 0;
    case VIDIOC_S_PARM: rate(argument, 1); return 0;
    case VIDIOC_REQBUFS:
        buffers = ((struct v4l2_requestbuffers *)argument)->count;
        queue_length = done_length = 0;
        return 0;
    case VIDIOC_QUERYBUF: {
        struct v4l2_buffer *buffer = argument;
        buffer->length = SIZE;
        buffer->m.offset = buffer->index * SIZE;
        return 0;
    }
    case VIDIOC_QBUF:
        queued[queue_length++] = ((struct v4l2_buffer *)argument)->index;
        return 0;
    case VIDIOC_DQBUF: return dequeue(argument);
    case VIDIOC_STREAMON: streaming = 1, next_due = now() + NS / fps; return 0;
    case VIDIOC_STREAMOFF: streaming = 0; return 0;
    default: return fail(ENOTTY);
    }
}

static int opened(const char *path, int handle) {
    const char *ours = getenv("STAND_IN");
    if (handle >= 0 && ours && strcmp(path, ours) == 0) device = handle, streaming = 0;
    return handle;
}

#define OPEN(name)                                                       \
    int name(const char *path, int flags, ...) {                         \
        va_list more;                                                    \
        va_start(more, flags);                                           \
        int mode = va_arg(more, int);                                    \
        va_end(more);                                                    \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #name);   \
        return opened(path, real(path, flags, mode));                    \
    }
OPEN(open)
OPEN(open64)

int close(int handle) {
    int (*real)(int) = dlsym(RTLD_NEXT, "close");
    if (handle == device) device = -1;
    return real(handle);
}

int ioctl(int handle, unsigned long request, ...) {
    va_list more;
    va_start(more, request);
    void *argument = va_arg(more, void *);
    va_end(more);
    if (handle >= 0 && handle == device) return control(request, argument);
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return real(handle, request, argument);
}

static void *mapped(size_t length, off_t offset) {
    char *bytes = calloc(1, length);
    FILE *file = fopen(getenv("STAND_IN_JPEG"), "rb");
    jpeg_size = fread(bytes, 1, length, file);
    fclose(file);
    return memory[offset / SIZE] = bytes;
}

#define MMAP(name)                                                                            \
    void *name(void *at, size_t length, int protection, int flags, int handle, off_t offset) { \
        void *(*real)(void *, size_t, int, int, int, off_t) = dlsym(RTLD_NEXT, #name);        \
        if (handle >= 0 && handle == device) return mapped(length, offset);                   \
        return real(at, length, protection, flags, handle, offset);                           \
    }
MMAP(mmap)
MMAP(mmap64)

int munmap(void *at, size_t length) {
    int (*real)(void *, size_t) = dlsym(RTLD_NEXT, "munmap");
    for (int i = 0; i < MOST; i++)
        if (at && memory[i] == at) {
            free(at);
            memory[i] = NULL;
            return 0;
        }
    return real(at, length);
}

int select(int count, fd_set *reads, fd_set *writes, fd_set *errors, struct timeval *timeout) {
    int (*real)(int, fd_set *, fd_set *, fd_set *, struct timeval *) = dlsym(RTLD_NEXT, "select");
    if (device < 0 || !reads || !FD_ISSET(device, reads))
        return real(count, reads, writes, errors, timeout);
    long long end = now() + timeout->tv_sec * NS + timeout->tv_usec * 1000LL;
    while (now() < end) {
        advance();
        if (done_length || gone()) return 1;
        usleep(500);
    }
    return 0;
}
