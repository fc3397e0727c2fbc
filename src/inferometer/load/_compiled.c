/* The compiled part of the load path: reading many sockets, decoding chunks that differ only in their text, and the
   arrival times of reads.

   Optional. `connections`, `event_decoding` and `arrivals` do the same in Python, and tests hold both to the same results.
   Only the limited API of Python 3.11 is used: one file serves all later versions. */

#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef __linux__
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#endif

#define BUFFER_BYTES 262144
#define STAMP_BYTES 16 /* seconds and ns, 64 bits each */
#define MOST_UNPACKED (INT64_C(1) << 31)
#define MOST_NS (INT64_C(1) << 62)
#define MOST_CHUNK 4095 /* a larger chunk is left to Python */

/* --- framing: answers in chunks as servers send them -----------------------------------------------------------------

   Only answers without anything unusual are recognised; llhttp looks at all others. */

static int is_token_character(unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' || c == '_';
}

/* Whether the bytes are this text, which is in lower case, in any case. */
static int same_word(const char *at, size_t size, const char *word) {
    if (size != strlen(word))
        return 0;
    for (size_t i = 0; i < size; i++)
        if ((at[i] >= 'A' && at[i] <= 'Z' ? at[i] + 32 : at[i]) != word[i])
            return 0;
    return 1;
}

/* The size of the head of an answer with status 200 whose body comes in chunks; 0 for anything else. */
static size_t chunked_head(const char *data, size_t size, int *keeps_alive) {
    int is_chunked = 0;
    size_t at = 0;
    *keeps_alive = 1;
    if (size < 13 || memcmp(data, "HTTP/1.1 200 ", 13) != 0)
        return 0;
    for (;;) {
        size_t end = at, name;
        while (end < size && (unsigned char)data[end] >= 0x20 && (unsigned char)data[end] < 0x7F)
            end++;
        if (end + 2 > size || data[end] != '\r' || data[end + 1] != '\n')
            return 0;
        if (end == at)
            return is_chunked == 1 ? end + 2 : 0;
        for (name = at; at > 0 && is_token_character((unsigned char)data[name]); name++)
            ;
        if (at > 0) {
            size_t value = name + 1;
            if (name == at || data[name] != ':')
                return 0;
            while (value < end && data[value] == ' ')
                value++;
            size_t length = end - value;
            if (same_word(data + at, name - at, "transfer-encoding")) {
                if (is_chunked++ || !same_word(data + value, length, "chunked"))
                    return 0;
            } else if (same_word(data + at, name - at, "connection")) {
                *keeps_alive &= same_word(data + value, length, "keep-alive");
            } else if (same_word(data + at, name - at, "content-length") ||
                       same_word(data + at, name - at, "proxy-connection") ||
                       same_word(data + at, name - at, "upgrade")) {
                return 0;
            }
        }
        at = end + 2;
    }
}

/* Skips a chunk at `at`: where it ends, 0 if it is not complete or has another form. `is_last`: it has no data. */
static size_t chunk_end(const char *data, size_t size, size_t at, int *is_last) {
    size_t stated = 0, begin = at;
    for (; at < size && at < begin + 7; at++) {
        char c = data[at];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0)
            break;
        stated = stated * 16 + (size_t)digit;
    }
    if (at == begin || size - at < stated + 4 || memcmp(data + at, "\r\n", 2) != 0 ||
        memcmp(data + at + 2 + stated, "\r\n", 2) != 0)
        return 0;
    *is_last = stated == 0;
    return at + stated + 4;
}

PyDoc_STRVAR(is_whole_stream_doc,
"is_whole_stream(data)\n--\n\n"
"Whether the data are exactly one complete answer with status 200 in chunks, after which the connection stays open.\n"
"False: llhttp must decide.");

static PyObject *is_whole_stream(PyObject *self, PyObject *arg) {
    Py_buffer data;
    int keeps_alive, is_last = 0;
    (void)self;
    if (PyObject_GetBuffer(arg, &data, PyBUF_SIMPLE) < 0)
        return NULL;
    size_t size = (size_t)data.len, at = chunked_head(data.buf, size, &keeps_alive);
    while (at > 0 && at < size && !is_last)
        at = chunk_end(data.buf, size, at, &is_last);
    PyBuffer_Release(&data);
    return PyBool_FromLong(is_last && keeps_alive && at == size);
}

/* --- reading: the answers that are streamed --------------------------------------------------------------------------

   A connection is followed from its request to the end of its answer, if the first read shows an answer in chunks;
   other answers are left to Python. What is read of it waits in its Stream; `hand_over` appends it to the bytearrays that
   Python reads: at a possible end of the answer, at the end of the connection, and when Python asks for it. */

#ifdef __linux__

#define LAST_NS 120000 /* see polling.py */
#define MOST_READY 512
#define LEAST_ROOM 1024

typedef struct {
    int64_t read_ns;
    int64_t stamp[2]; /* the kernel's: seconds and ns; zeros without one */
    uint32_t length;
} Read;

typedef struct {
    PyObject *kept; /* (raw, lengths, read_ns, kernel), all bytearrays; NULL: not followed */
    int stamps; /* whether the kernel stamps its reads */
    int in_head; /* the next read begins an answer */
    char *bytes;
    size_t size, room, before; /* `before`: bytes in `raw` */
    Read *reads;
    size_t count, most;
    char end[4]; /* the last bytes */
} Stream;

static char buffer[BUFFER_BYTES]; /* used only while the interpreter lock is held */
static Stream *streams; /* by descriptor */
static int stream_count;
static int64_t last_poll_ns;

/* time.monotonic_ns() */
static int64_t monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Appends to a bytearray. -1 with an exception set if it cannot grow. */
static int append(PyObject *array, const void *data, Py_ssize_t size) {
    Py_ssize_t before = PyByteArray_Size(array);
    if (PyByteArray_Resize(array, before + size) < 0)
        return -1;
    if (size > 0)
        memcpy(PyByteArray_AsString(array) + before, data, (size_t)size);
    return 0;
}

/* Appends one field of each read to a bytearray. */
static int append_field(PyObject *array, const Stream *stream, size_t offset, size_t size) {
    Py_ssize_t before = PyByteArray_Size(array);
    if (PyByteArray_Resize(array, before + (Py_ssize_t)(stream->count * size)) < 0)
        return -1;
    char *to = PyByteArray_AsString(array) + before;
    for (size_t i = 0; i < stream->count; i++, to += size)
        memcpy(to, (const char *)&stream->reads[i] + offset, size);
    return 0;
}

/* Appends what was read to the bytearrays. -1 with an exception set if one of them cannot grow. */
static int hand_over(Stream *stream) {
    PyObject *kept = stream->kept;
    if (append(PyTuple_GetItem(kept, 0), stream->bytes, (Py_ssize_t)stream->size) < 0 ||
        append_field(PyTuple_GetItem(kept, 1), stream, offsetof(Read, length), sizeof(uint32_t)) < 0 ||
        append_field(PyTuple_GetItem(kept, 2), stream, offsetof(Read, read_ns), sizeof(int64_t)) < 0 ||
        (stream->stamps && append_field(PyTuple_GetItem(kept, 3), stream, offsetof(Read, stamp), STAMP_BYTES) < 0))
        return -1;
    stream->before += stream->size;
    stream->size = stream->count = 0;
    return 0;
}

/* Makes room for `more` bytes and one read. */
static int make_room(Stream *stream, size_t more) {
    if (stream->room < stream->size + more) {
        size_t room = 2 * (stream->size + more) + 4096;
        char *bytes = realloc(stream->bytes, room);
        if (bytes == NULL)
            return -1;
        stream->bytes = bytes;
        stream->room = room;
    }
    if (stream->most == stream->count) {
        size_t most = 2 * stream->most + 32;
        Read *reads = realloc(stream->reads, most * sizeof(Read));
        if (reads == NULL)
            return -1;
        stream->reads = reads;
        stream->most = most;
    }
    return 0;
}

/* One read of a socket into `room` bytes of its stream, and into `buffer` what exceeds them; and its kernel stamp. Count
   or -1, as recvmsg(). */
static ssize_t read_once(int fd, const Stream *stream, size_t room, int64_t *stamp) {
    union { struct cmsghdr align; char bytes[128]; } control;
    struct iovec places[2] = {{stream->bytes + stream->size, room}, {buffer, BUFFER_BYTES - room}};
    struct msghdr message = {.msg_iov = places, .msg_iovlen = 2};
    stamp[0] = stamp[1] = 0;
    if (stream->stamps) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
    }
    ssize_t count = recvmsg(fd, &message, 0);
    struct cmsghdr *first = count > 0 && stream->stamps ? CMSG_FIRSTHDR(&message) : NULL;
    if (first != NULL && first->cmsg_len >= CMSG_LEN(STAMP_BYTES))
        memcpy(stamp, CMSG_DATA(first), STAMP_BYTES);
    return count;
}

enum { GOES_ON, MAY_HAVE_ENDED, CONNECTION_CLOSED, NOTHING_READ, NO_MEMORY };

/* Whether Python must look at what was read: the answer may have ended, is too large, or is not in chunks. */
static int needs_python(Stream *stream, size_t limit) {
    if (stream->in_head) {
        int keeps_alive;
        stream->in_head = 0;
        if (chunked_head(stream->bytes, stream->size, &keeps_alive) == 0)
            return 1;
    }
    return stream->before + stream->size > limit || memcmp(stream->end, "\r\n\r\n", 4) == 0;
}

/* Keeps the last of the bytes, of which `count` are new. */
static void note_end(Stream *stream, size_t count) {
    size_t new = count < 4 ? count : 4;
    memmove(stream->end, stream->end + new, 4 - new);
    memcpy(stream->end + 4 - new, stream->bytes + stream->size - new, new);
}

/* Reads a followed socket once. `code`: errno of a closed connection, 0 where the server closed it. */
static int receive_one(int fd, Stream *stream, size_t limit, int *code) {
    Read read;
    if (make_room(stream, LEAST_ROOM) < 0)
        return NO_MEMORY;
    size_t room = stream->room - stream->size < BUFFER_BYTES ? stream->room - stream->size : BUFFER_BYTES;
    ssize_t count = read_once(fd, stream, room, read.stamp);
    read.read_ns = monotonic_ns();
    if (count <= 0) {
        *code = count == 0 ? 0 : errno;
        return *code == EAGAIN || *code == EINTR ? NOTHING_READ : CONNECTION_CLOSED;
    }
    if ((size_t)count > room) {
        stream->size += room;
        if (make_room(stream, (size_t)count - room) < 0)
            return NO_MEMORY;
        memcpy(stream->bytes + stream->size, buffer, (size_t)count - room);
        stream->size += (size_t)count - room;
    } else {
        stream->size += (size_t)count;
    }
    read.length = (uint32_t)count;
    stream->reads[stream->count++] = read;
    note_end(stream, (size_t)count);
    return needs_python(stream, limit) ? MAY_HAVE_ENDED : GOES_ON;
}

static Stream *stream_of(int fd) {
    return fd >= 0 && fd < stream_count && streams[fd].kept != NULL ? &streams[fd] : NULL;
}

PyDoc_STRVAR(follow_doc,
"follow(fd, kept, stamps, in_head=False)\n--\n\n"
"Let `receive` read this socket from now on. `kept`: (raw, lengths, read_ns, kernel), all bytearrays. `stamps`: whether\n"
"the kernel stamps what it receives. `in_head`: the next read begins an answer; it is reported as a possible end where\n"
"it does not show an answer in chunks.");

static PyObject *follow(PyObject *self, PyObject *args) {
    int fd, stamps, in_head = 0;
    PyObject *kept;
    (void)self;
    if (!PyArg_ParseTuple(args, "iO!p|p", &fd, &PyTuple_Type, &kept, &stamps, &in_head))
        return NULL;
    for (Py_ssize_t i = 0; i < 4; i++)
        if (PyTuple_Size(kept) != 4 || !PyByteArray_Check(PyTuple_GetItem(kept, i)) || fd < 0) {
            PyErr_SetString(PyExc_TypeError, "not a descriptor and four bytearrays");
            return NULL;
        }
    if (fd >= stream_count) {
        int count = 2 * fd + 64;
        Stream *more = realloc(streams, (size_t)count * sizeof(Stream));
        if (more == NULL)
            return PyErr_NoMemory();
        memset(more + stream_count, 0, (size_t)(count - stream_count) * sizeof(Stream));
        streams = more;
        stream_count = count;
    }
    Stream *stream = &streams[fd];
    PyObject *old = stream->kept, *raw = PyTuple_GetItem(kept, 0);
    stream->kept = Py_NewRef(kept);
    stream->stamps = stamps;
    stream->in_head = in_head;
    Py_XDECREF(old);
    Py_ssize_t size = PyByteArray_Size(raw), tail = size < 4 ? size : 4;
    stream->before = (size_t)size;
    stream->size = stream->count = 0;
    memset(stream->end, 0, 4);
    memcpy(stream->end + 4 - tail, PyByteArray_AsString(raw) + size - tail, (size_t)tail);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(unfollow_doc,
"unfollow(fd)\n--\n\nHand over what was read of this socket, and leave it to Python from now on.");

static PyObject *unfollow(PyObject *self, PyObject *args) {
    int fd, failed;
    (void)self;
    if (!PyArg_ParseTuple(args, "i", &fd))
        return NULL;
    Stream *stream = stream_of(fd);
    if (stream == NULL)
        Py_RETURN_NONE;
    failed = hand_over(stream) < 0;
    Py_CLEAR(stream->kept);
    if (stream->room > BUFFER_BYTES) {
        free(stream->bytes);
        stream->bytes = NULL;
        stream->room = 0;
    }
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(hand_over_quiet_doc,
"hand_over_quiet(since_ns)\n--\n\nHand over what was read of the sockets that gave nothing after `since_ns`.");

static PyObject *hand_over_quiet(PyObject *self, PyObject *since) {
    (void)self;
    long long since_ns = PyLong_AsLongLong(since);
    if (since_ns == -1 && PyErr_Occurred())
        return NULL;
    for (int fd = 0; fd < stream_count; fd++) {
        Stream *stream = &streams[fd];
        if (stream->kept != NULL && stream->count > 0 && stream->reads[stream->count - 1].read_ns <= since_ns &&
            hand_over(stream) < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

/* What one call of `receive` has found. */
typedef struct {
    PyObject *others, *ended, *closed;
    Py_ssize_t reads;
} Found;

static int append_new(PyObject *list, PyObject *item) {
    int failed = item == NULL || PyList_Append(list, item) < 0;
    Py_XDECREF(item);
    return failed ? -1 : 0;
}

/* Reads the sockets that are ready. Returns their number, -1 with an exception set. */
static int read_ready(int epoll_fd, size_t limit, Found *found) {
    struct epoll_event events[MOST_READY];
    int ready = epoll_wait(epoll_fd, events, MOST_READY, 0);
    if (ready < 0 && errno != EINTR) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    for (int i = 0; i < ready; i++) {
        int fd = events[i].data.fd, code = 0;
        Stream *stream = stream_of(fd);
        if (stream == NULL) {
            if (append_new(found->others, Py_BuildValue("(iI)", fd, (unsigned int)events[i].events)) < 0)
                return -1;
            continue;
        }
        int state = receive_one(fd, stream, limit, &code);
        found->reads += state == GOES_ON || state == MAY_HAVE_ENDED;
        if (state == GOES_ON || state == NOTHING_READ)
            continue;
        if (state == NO_MEMORY) {
            PyErr_NoMemory();
            return -1;
        }
        if (hand_over(stream) < 0 ||
            (state == MAY_HAVE_ENDED ? append_new(found->ended, PyLong_FromLong(fd))
                                     : append_new(found->closed, Py_BuildValue("(ii)", fd, code))) < 0)
            return -1;
    }
    return ready < 0 ? 0 : ready;
}

/* Sleeps; with a descriptor, until it is ready at the latest. -1 with an exception set if a signal raised one. */
static int sleep_ns(int64_t ns, int epoll_fd) {
    struct timespec time = {ns / 1000000000, ns % 1000000000};
    struct pollfd watched = {epoll_fd, POLLIN, 0};
    Py_BEGIN_ALLOW_THREADS
    ppoll(&watched, epoll_fd >= 0, &time, NULL);
    Py_END_ALLOW_THREADS
    return PyErr_CheckSignals();
}

/* Waits and reads until `until_ns`, or until there is something for Python. */
static int read_until(int epoll_fd, int64_t until_ns, int64_t pause_ns, size_t limit, Found *found) {
    for (int ready = 0;;) {
        int64_t now = monotonic_ns();
        int64_t next = last_poll_ns + pause_ns < until_ns ? last_poll_ns + pause_ns : until_ns;
        if (pause_ns > 0 && next > now && ready < MOST_READY) {
            if (sleep_ns(next - now, -1) < 0)
                return -1;
            now = monotonic_ns();
        }
        last_poll_ns = now;
        ready = read_ready(epoll_fd, limit, found);
        if (ready < 0)
            return -1;
        now = monotonic_ns();
        if (now >= until_ns || PyList_Size(found->others) || PyList_Size(found->ended) || PyList_Size(found->closed))
            return 0;
        if (ready == 0 && until_ns - now > LAST_NS && sleep_ns(until_ns - now - LAST_NS, epoll_fd) < 0)
            return -1;
    }
}

PyDoc_STRVAR(receive_doc,
"receive(epoll_fd, until_ns, pause_ns, limit)\n--\n\n"
"Read the followed sockets until `until_ns` (monotonic clock), or until there is something for Python. Between two\n"
"polls at least `pause_ns` pass, unless more is ready. Returns descriptor and mask of other sockets that are ready; the descriptors where an\n"
"answer may have ended or exceeds `limit` bytes; descriptor and errno (0: its end) of closed connections; and the number\n"
"of reads.");

static PyObject *receive(PyObject *self, PyObject *args) {
    int epoll_fd;
    long long until_ns, pause_ns;
    Py_ssize_t limit;
    (void)self;
    if (!PyArg_ParseTuple(args, "iLLn", &epoll_fd, &until_ns, &pause_ns, &limit))
        return NULL;
    Found found = {PyList_New(0), PyList_New(0), PyList_New(0), 0};
    if (found.others != NULL && found.ended != NULL && found.closed != NULL &&
        read_until(epoll_fd, until_ns, pause_ns, (size_t)limit, &found) == 0)
        return Py_BuildValue("(NNNn)", found.others, found.ended, found.closed, found.reads);
    Py_XDECREF(found.others);
    Py_XDECREF(found.ended);
    Py_XDECREF(found.closed);
    return NULL;
}

#endif /* __linux__ */

/* --- decoding: chunks that differ only in their text ---------------------------------------------------------------- */

/* The bytes of the UTF-8 character at `text`, 0 if it is not one (RFC 3629, section 4). */
static int utf8_length(const unsigned char *text, Py_ssize_t left) {
    unsigned char first = text[0], low = 0x80, high = 0xBF;
    int length = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
    if (length == 0 || length > left)
        return 0;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
    for (int i = 1; i < length; i++, low = 0x80, high = 0xBF)
        if (text[i] < low || text[i] > high)
            return 0;
    return length;
}

/* Decodes the inside of a JSON string to `to`, at most `size` bytes, and counts its characters. Returns the bytes
   written, or -1 for what is left to Python: \u escapes, and what JSON does not allow. */
static Py_ssize_t decode_text(const char *text, Py_ssize_t size, char *to, uint32_t *characters) {
    static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    Py_ssize_t written = 0;
    *characters = 0;
    for (Py_ssize_t at = 0; at < size; ++*characters) {
        unsigned char one = (unsigned char)text[at];
        if (one < 0x20 || one == '"')
            return -1;
        if (one == '\\') {
            const char *escape = at + 1 < size && text[at + 1] ? strchr(escapes, text[at + 1]) : NULL;
            if (escape == NULL)
                return -1;
            to[written++] = meant[escape - escapes];
            at += 2;
            continue;
        }
        int length = utf8_length((const unsigned char *)text + at, size - at);
        if (length == 0)
            return -1;
        memcpy(to + written, text + at, (size_t)length);
        written += length;
        at += length;
    }
    return written;
}

/* The size at the beginning of a chunk as servers write it (no leading zeros, one case); `digits`: their number.
   0: Python looks at it. */
static Py_ssize_t chunk_size(const char *at, Py_ssize_t left, Py_ssize_t *digits) {
    Py_ssize_t size = 0;
    int lower = 0, upper = 0;
    for (*digits = 0; *digits < left && *digits < 4; ++*digits) {
        char c = at[*digits];
        int is_lower = c >= 'a' && c <= 'f', is_upper = c >= 'A' && c <= 'F';
        if (!(c >= '0' && c <= '9') && !is_lower && !is_upper)
            break;
        lower |= is_lower;
        upper |= is_upper;
        size = size * 16 + (is_lower ? c - 'a' + 10 : is_upper ? c - 'A' + 10 : c - '0');
    }
    return *digits == 0 || at[0] == '0' || (lower && upper) || size > MOST_CHUNK ? 0 : size;
}

typedef struct { const char *bytes; Py_ssize_t size; } Piece;

/* The text of the chunk at `at`, between `head` and `tail`. Returns the size of the whole chunk, 0 if it has another
   form. `around`: bytes of the chunk's data that are not its text. */
static Py_ssize_t similar_chunk(const char *at, Py_ssize_t left, Piece head, Piece tail, Py_ssize_t around, Piece *text) {
    Py_ssize_t digits, size = chunk_size(at, left, &digits);
    Py_ssize_t whole = digits + 2 + size + 2;
    text->size = size - around;
    if (size == 0 || text->size <= 0 || whole > left)
        return 0;
    text->bytes = at + digits + head.size;
    if (memcmp(at + digits, head.bytes, (size_t)head.size) != 0 ||
        memcmp(text->bytes + text->size, tail.bytes, (size_t)tail.size) != 0)
        return 0;
    return whole;
}

PyDoc_STRVAR(similar_chunks_doc,
"similar_chunks(data, start, stop, head, tail)\n--\n\n"
"The chunks in `data` from `start` that consist of a size, `head`, a text and `tail`. Returns the offset at which each\n"
"chunk's data end (i64), the characters of each text (u32), and all texts, decoded, as UTF-8; None if a text needs\n"
"Python.");

static PyObject *similar_chunks(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer data = {0};
    Piece head, tail, text;
    Py_ssize_t start, stop, used = 0;
    PyObject *ends = NULL, *counts = NULL, *texts = NULL, *result = NULL;
    if (!PyArg_ParseTuple(args, "y*nny#y#", &data, &start, &stop, &head.bytes, &head.size, &tail.bytes, &tail.size))
        return NULL;
    if (start < 0 || stop > data.len || start > stop || head.size < 2 || tail.size < 4) {
        PyErr_SetString(PyExc_ValueError, "offsets outside the data");
        goto done;
    }
    Py_ssize_t around = head.size - 2 + tail.size - 2; /* the line ends after the size and the data do not count */
    Py_ssize_t most = (stop - start) / (around + 5) + 1;
    ends = PyByteArray_FromStringAndSize(NULL, most * 8);
    counts = PyByteArray_FromStringAndSize(NULL, most * 4);
    texts = PyByteArray_FromStringAndSize(NULL, stop - start);
    if (ends == NULL || counts == NULL || texts == NULL)
        goto done;
    int64_t *end = (int64_t *)PyByteArray_AsString(ends);
    uint32_t *characters = (uint32_t *)PyByteArray_AsString(counts);
    char *to = PyByteArray_AsString(texts);
    Py_ssize_t at = start, found = 0, whole;
    while (found < most && (whole = similar_chunk((const char *)data.buf + at, stop - at, head, tail, around, &text)) > 0) {
        Py_ssize_t written = decode_text(text.bytes, text.size, to + used, &characters[found]);
        if (written < 0) {
            result = Py_NewRef(Py_None);
            goto done;
        }
        used += written;
        at += whole;
        end[found++] = at - 2;
    }
    if (PyByteArray_Resize(ends, found * 8) == 0 && PyByteArray_Resize(counts, found * 4) == 0 &&
        PyByteArray_Resize(texts, used) == 0)
        result = Py_BuildValue("(OOO)", ends, counts, texts);
done:
    Py_XDECREF(ends);
    Py_XDECREF(counts);
    Py_XDECREF(texts);
    PyBuffer_Release(&data);
    return result;
}

/* --- packing: an answer whose reads are almost equal -----------------------------------------------------------------

   What was read of an answer, in about a tenth of its bytes and without loss: of each read only what differs from the
   read before. `packing.py` states the format. */

typedef struct {
    char *at, *end; /* where the next byte goes; the end of the room */
} Writer;

static void write_number(Writer *writer, uint64_t number) {
    for (; number >= 0x80 && writer->at < writer->end; number >>= 7)
        *writer->at++ = (char)(number | 0x80);
    if (writer->at < writer->end)
        *writer->at++ = (char)number;
}

static void write_signed(Writer *writer, int64_t number) {
    write_number(writer, ((uint64_t)number << 1) ^ (uint64_t)(number >> 63));
}

/* The number of equal bytes at the beginning of both. */
static Py_ssize_t common_beginning(const char *one, const char *other, Py_ssize_t most) {
    Py_ssize_t count = 0;
    for (; count + 8 <= most && memcmp(one + count, other + count, 8) == 0; count += 8)
        ;
    while (count < most && one[count] == other[count])
        count++;
    return count;
}

/* The number of equal bytes before both ends. */
static Py_ssize_t common_end(const char *one_end, const char *other_end, Py_ssize_t most) {
    Py_ssize_t count = 0;
    for (; count + 8 <= most && memcmp(one_end - count - 8, other_end - count - 8, 8) == 0; count += 8)
        ;
    while (count < most && one_end[-count - 1] == other_end[-count - 1])
        count++;
    return count;
}

enum { IS_CHUNK = 1, IS_STAMPED = 2 };

/* The data of a read that is exactly one chunk, with its size as most servers write it. Else the whole read. */
static int whole_chunk(const char *read, Py_ssize_t size, Piece *data) {
    Py_ssize_t digits, stated = chunk_size(read, size, &digits);
    data->bytes = read;
    data->size = size;
    for (Py_ssize_t i = 0; i < digits; i++)
        if (read[i] >= 'A' && read[i] <= 'F')
            return 0;
    if (stated == 0 || size != digits + 2 + stated + 2 || memcmp(read + digits, "\r\n", 2) != 0 ||
        memcmp(read + size - 2, "\r\n", 2) != 0)
        return 0;
    data->bytes = read + digits + 2;
    data->size = stated;
    return 1;
}

static void write_read(Writer *writer, int flags, Piece data, Piece before) {
    Py_ssize_t most = data.size < before.size ? data.size : before.size;
    Py_ssize_t same = common_beginning(data.bytes, before.bytes, most);
    Py_ssize_t same_end = common_end(data.bytes + data.size, before.bytes + before.size, most - same);
    Py_ssize_t other = data.size - same - same_end;
    *writer->at++ = (char)flags;
    write_number(writer, (uint64_t)same);
    write_number(writer, (uint64_t)same_end);
    write_number(writer, (uint64_t)other);
    memcpy(writer->at, data.bytes + same, (size_t)other);
    writer->at += other;
}

/* The columns of an answer. `stamp` NULL: without kernel stamps. */
typedef struct {
    const char *raw;
    Py_ssize_t size, count;
    const uint32_t *length;
    const int64_t *read_ns, *stamp;
} Columns;

static int has_valid_times(const Columns *columns, Py_ssize_t i) {
    if (columns->read_ns[i] < 0 || columns->read_ns[i] > MOST_NS)
        return 0;
    if (columns->stamp == NULL)
        return 1;
    int64_t seconds = columns->stamp[2 * i], ns = columns->stamp[2 * i + 1];
    return seconds >= 0 && seconds < MOST_NS / 1000000000 && ns >= 0 && ns < 1000000000;
}

/* Writes all reads. 0 if the columns do not fit together. */
static int write_reads(Writer *writer, const Columns *columns) {
    const int64_t *stamp = columns->stamp;
    Piece before = {columns->raw, 0}, data;
    int64_t time_before = 0, lag_before = 0;
    Py_ssize_t offset = 0;
    for (Py_ssize_t i = 0; i < columns->count; i++) {
        Py_ssize_t length = columns->length[i];
        if (length > columns->size - offset || !has_valid_times(columns, i))
            return 0;
        int64_t kernel_ns = stamp ? stamp[2 * i] * INT64_C(1000000000) + stamp[2 * i + 1] : 0;
        int is_chunk = whole_chunk(columns->raw + offset, length, &data);
        write_read(writer, (is_chunk ? IS_CHUNK : 0) | (kernel_ns ? IS_STAMPED : 0), data, before);
        write_signed(writer, columns->read_ns[i] - time_before);
        if (kernel_ns) {
            int64_t lag = columns->read_ns[i] - kernel_ns;
            write_signed(writer, lag - lag_before);
            lag_before = lag;
        }
        time_before = columns->read_ns[i];
        before = data;
        offset += length;
    }
    return offset == columns->size;
}

PyDoc_STRVAR(pack_doc,
"pack(raw, lengths, read_ns, kernel)\n--\n\n"
"The packed form of an answer; None if the columns do not fit together.");

#define MOST_AROUND 64 /* flags, three sizes and two times take less */

static PyObject *pack(PyObject *self, PyObject *args) {
    Py_buffer raw = {0}, lengths = {0}, times = {0}, kernel = {0};
    PyObject *result = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*y*", &raw, &lengths, &times, &kernel))
        return NULL;
    Py_ssize_t count = lengths.len / 4, most = raw.len + (count + 1) * MOST_AROUND;
    Columns columns = {raw.buf, raw.len, count, lengths.buf, times.buf, kernel.len ? kernel.buf : NULL};
    char *room = malloc((size_t)most);
    if (room == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    Writer writer = {room, room + most};
    write_number(&writer, (uint64_t)raw.len);
    write_number(&writer, (uint64_t)count);
    write_number(&writer, kernel.len > 0);
    if (times.len == count * 8 && (kernel.len == 0 || kernel.len == count * STAMP_BYTES) &&
        write_reads(&writer, &columns))
        result = PyBytes_FromStringAndSize(room, writer.at - room);
    else
        result = Py_NewRef(Py_None);
done:
    free(room);
    PyBuffer_Release(&raw);
    PyBuffer_Release(&lengths);
    PyBuffer_Release(&times);
    PyBuffer_Release(&kernel);
    return result;
}

typedef struct {
    const char *at, *end;
    int failed;
} Reader;

static uint64_t read_number(Reader *reader) {
    uint64_t number = 0;
    for (int shift = 0; shift < 64 && reader->at < reader->end; shift += 7) {
        unsigned char byte = (unsigned char)*reader->at++;
        number |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80)
            return number;
    }
    reader->failed = 1;
    return 0;
}

/* `before` and the signed number that comes next. */
static int64_t read_sum(Reader *reader, int64_t before) {
    uint64_t number = read_number(reader);
    int64_t signed_number = (int64_t)(number >> 1) ^ -(int64_t)(number & 1), sum;
    if (__builtin_add_overflow(before, signed_number, &sum) || sum > MOST_NS || sum < -MOST_NS)
        reader->failed = 1;
    return reader->failed ? before : sum;
}

/* A size that must not exceed `most`. */
static Py_ssize_t read_size(Reader *reader, Py_ssize_t most) {
    uint64_t size = read_number(reader);
    if (reader->failed || size > (uint64_t)(most < 0 ? 0 : most)) {
        reader->failed = 1;
        return 0;
    }
    return (Py_ssize_t)size;
}

/* The size of a chunk as most servers write it, and a line end. Returns the bytes written. */
static int write_chunk_head(char *to, size_t size) {
    int digits = 1;
    for (size_t rest = size >> 4; rest > 0; rest >>= 4)
        digits++;
    for (int i = digits - 1; i >= 0; i--, size >>= 4)
        to[i] = "0123456789abcdef"[size & 15];
    memcpy(to + digits, "\r\n", 2);
    return digits + 2;
}

/* Writes the bytes of the next read to `to`; `before` and then `data`: what it is compared with. Returns its length. */
static Py_ssize_t read_bytes(Reader *reader, int is_chunk, char *to, Py_ssize_t left, Piece *data) {
    Piece before = *data;
    Py_ssize_t same = read_size(reader, before.size), same_end = read_size(reader, before.size - same);
    Py_ssize_t other = read_size(reader, reader->end - reader->at), size = same + other + same_end;
    char head[24];
    int head_size = is_chunk ? write_chunk_head(head, (size_t)size) : 0;
    Py_ssize_t whole = head_size + size + (is_chunk ? 2 : 0);
    if (reader->failed || whole > left) {
        reader->failed = 1;
        return 0;
    }
    memcpy(to, head, (size_t)head_size);
    to += head_size;
    memcpy(to, before.bytes, (size_t)same);
    memcpy(to + same, reader->at, (size_t)other);
    memcpy(to + same + other, before.bytes + before.size - same_end, (size_t)same_end);
    if (is_chunk)
        memcpy(to + size, "\r\n", 2);
    reader->at += other;
    *data = (Piece){to, size};
    return whole;
}

/* Where the columns of an answer are written. `stamp` NULL: without kernel stamps. */
typedef struct {
    char *raw;
    Py_ssize_t size, count;
    uint32_t *length;
    int64_t *read_ns, *stamp;
} Unpacked;

/* Reads all reads. 0 if this is not a packed answer. */
static int read_reads(Reader *reader, const Unpacked *to) {
    Piece data = {to->raw, 0};
    int64_t time = 0, lag = 0;
    Py_ssize_t offset = 0;
    for (Py_ssize_t i = 0; i < to->count; i++) {
        uint64_t flags = read_number(reader);
        Py_ssize_t length = read_bytes(reader, (flags & IS_CHUNK) != 0, to->raw + offset, to->size - offset, &data);
        offset += length;
        to->length[i] = (uint32_t)length;
        to->read_ns[i] = time = read_sum(reader, time);
        lag = flags & IS_STAMPED ? read_sum(reader, lag) : lag;
        int64_t kernel_ns = flags & IS_STAMPED ? time - lag : 0;
        if (reader->failed || kernel_ns < 0)
            return 0;
        if (to->stamp != NULL) {
            to->stamp[2 * i] = kernel_ns / 1000000000;
            to->stamp[2 * i + 1] = kernel_ns % 1000000000;
        }
    }
    return offset == to->size && reader->at == reader->end;
}

PyDoc_STRVAR(unpack_doc,
"unpack(packed)\n--\n\nThe four columns that `pack` was given, as bytes. Raises ValueError for anything else.");

static PyObject *unpack(PyObject *self, PyObject *args) {
    Py_buffer packed = {0};
    PyObject *raw = NULL, *lengths = NULL, *times = NULL, *kernel = NULL, *result = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*", &packed))
        return NULL;
    Reader reader = {packed.buf, (const char *)packed.buf + packed.len, 0};
    Py_ssize_t size = read_size(&reader, MOST_UNPACKED), count = read_size(&reader, packed.len / 5);
    int has_kernel = read_number(&reader) == 1, failed = reader.failed;
    raw = PyBytes_FromStringAndSize(NULL, size);
    lengths = PyBytes_FromStringAndSize(NULL, count * 4);
    times = PyBytes_FromStringAndSize(NULL, count * 8);
    kernel = PyBytes_FromStringAndSize(NULL, has_kernel ? count * STAMP_BYTES : 0);
    if (raw == NULL || lengths == NULL || times == NULL || kernel == NULL)
        goto done;
    Unpacked to = {PyBytes_AsString(raw), size, count, (uint32_t *)PyBytes_AsString(lengths),
                   (int64_t *)PyBytes_AsString(times), has_kernel ? (int64_t *)PyBytes_AsString(kernel) : NULL};
    if (!failed && read_reads(&reader, &to))
        result = Py_BuildValue("(OOOO)", raw, lengths, times, kernel);
    else
        PyErr_SetString(PyExc_ValueError, "not a packed answer");
done:
    Py_XDECREF(raw);
    Py_XDECREF(lengths);
    Py_XDECREF(times);
    Py_XDECREF(kernel);
    PyBuffer_Release(&packed);
    return result;
}

/* --- times ----------------------------------------------------------------------------------------------------------- */

PyDoc_STRVAR(arrivals_doc,
"arrivals(read_ns, kernel, offset_ns, sent_ns, tolerance_ns)\n--\n\n"
"`arrivals.Arrivals` of reads with kernel stamps: at_ns and lag_ns (i64), and the number of errors.");

static PyObject *arrivals(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer reads = {0}, stamps = {0};
    long long offset_ns, sent_ns, tolerance_ns, latest = INT64_MIN;
    PyObject *arrived = NULL, *lags = NULL, *result = NULL;
    Py_ssize_t lag_count = 0, errors = 0;
    if (!PyArg_ParseTuple(args, "y*y*LLL", &reads, &stamps, &offset_ns, &sent_ns, &tolerance_ns))
        return NULL;
    Py_ssize_t count = reads.len / 8;
    arrived = PyByteArray_FromStringAndSize(NULL, count * 8);
    lags = PyByteArray_FromStringAndSize(NULL, count * 8);
    if (stamps.len != count * STAMP_BYTES)
        PyErr_SetString(PyExc_ValueError, "each read needs one stamp");
    if (arrived == NULL || lags == NULL || PyErr_Occurred())
        goto done;
    const int64_t *read = reads.buf, *stamp = stamps.buf;
    int64_t *at = (int64_t *)PyByteArray_AsString(arrived), *lag = (int64_t *)PyByteArray_AsString(lags);
    for (Py_ssize_t i = 0; i < count; i++, stamp += 2) {
        int64_t kernel_ns = stamp[0] * INT64_C(1000000000) + stamp[1] - offset_ns, at_ns = read[i];
        int sound = stamp[0] != 0 && kernel_ns >= sent_ns - tolerance_ns && kernel_ns <= read[i] + tolerance_ns;
        errors += stamp[0] != 0 && !sound;
        if (sound) {
            at_ns = kernel_ns < sent_ns ? sent_ns : kernel_ns;
            at_ns = at_ns > read[i] ? read[i] : at_ns;
            lag[lag_count++] = read[i] - at_ns;
        }
        at[i] = latest = at_ns > latest ? at_ns : latest;
    }
    if (PyByteArray_Resize(lags, lag_count * 8) == 0)
        result = Py_BuildValue("(OOn)", arrived, lags, errors);
done:
    Py_XDECREF(arrived);
    Py_XDECREF(lags);
    PyBuffer_Release(&reads);
    PyBuffer_Release(&stamps);
    return result;
}

PyDoc_STRVAR(event_times_doc,
"event_times(at_ns, lengths, ends, zero_ns)\n--\n\n"
"The time of each event, since `zero_ns`: that of the read that holds the byte before its end. `at_ns` (i64) and\n"
"`lengths` (u32) of each read; `ends` (i64): offsets that never decrease.");

static PyObject *event_times(PyObject *self, PyObject *args) {
    Py_buffer reads = {0}, lengths = {0}, ends = {0};
    long long zero_ns;
    PyObject *result = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*L", &reads, &lengths, &ends, &zero_ns))
        return NULL;
    Py_ssize_t count = ends.len / 8, most = lengths.len / 4, place = 0;
    const int64_t *at_ns = reads.buf, *end = ends.buf;
    const uint32_t *length = lengths.buf;
    int64_t read_end = most > 0 ? length[0] : 0;
    int64_t *time = NULL;
    if (reads.len != most * 8)
        PyErr_SetString(PyExc_ValueError, "each read needs one time");
    else
        result = PyByteArray_FromStringAndSize(NULL, count * 8);
    if (result != NULL)
        time = (int64_t *)PyByteArray_AsString(result);
    for (Py_ssize_t i = 0; time != NULL && i < count; i++) {
        while (place < most && read_end < end[i])
            read_end += ++place < most ? length[place] : 0;
        if (place == most) {
            PyErr_SetString(PyExc_ValueError, "an event ends after the last read");
            Py_CLEAR(result);
            break;
        }
        time[i] = at_ns[place] - zero_ns;
    }
    PyBuffer_Release(&reads);
    PyBuffer_Release(&lengths);
    PyBuffer_Release(&ends);
    return result;
}

PyDoc_STRVAR(output_times_doc,
"output_times(at_ns, kinds, chars, is_output, text_kind)\n--\n\n"
"The times (i64) of the events with output: `is_output` has a 1 for each such kind, and a text must have characters;\n"
"and how many of them are equal to the time before.");

static PyObject *output_times(PyObject *self, PyObject *args) {
    Py_buffer times = {0}, kinds = {0}, chars = {0}, outputs = {0};
    int text_kind;
    PyObject *found = NULL, *result = NULL;
    Py_ssize_t count = 0, equal = 0;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*y*y*y*i", &times, &kinds, &chars, &outputs, &text_kind))
        return NULL;
    if (times.len != kinds.len * 8 || chars.len != kinds.len * 4 || outputs.len != 256)
        PyErr_SetString(PyExc_ValueError, "the columns of these events do not fit together");
    else
        found = PyByteArray_FromStringAndSize(NULL, times.len);
    if (found != NULL) {
        const int64_t *at_ns = times.buf;
        const unsigned char *kind = kinds.buf, *is_output = outputs.buf;
        const uint32_t *length = chars.buf;
        int64_t *to = (int64_t *)PyByteArray_AsString(found);
        for (Py_ssize_t i = 0; i < kinds.len; i++) {
            if (!is_output[kind[i]] || (kind[i] == text_kind && length[i] == 0))
                continue;
            equal += count > 0 && to[count - 1] == at_ns[i];
            to[count++] = at_ns[i];
        }
        if (PyByteArray_Resize(found, count * 8) == 0)
            result = Py_BuildValue("(On)", found, equal);
        Py_DECREF(found);
    }
    PyBuffer_Release(&times);
    PyBuffer_Release(&kinds);
    PyBuffer_Release(&chars);
    PyBuffer_Release(&outputs);
    return result;
}

static PyMethodDef methods[] = {
    {"arrivals", arrivals, METH_VARARGS, arrivals_doc},
    {"event_times", event_times, METH_VARARGS, event_times_doc},
    {"is_whole_stream", is_whole_stream, METH_O, is_whole_stream_doc},
    {"output_times", output_times, METH_VARARGS, output_times_doc},
#ifdef __linux__
    {"follow", follow, METH_VARARGS, follow_doc},
    {"hand_over_quiet", hand_over_quiet, METH_O, hand_over_quiet_doc},
    {"receive", receive, METH_VARARGS, receive_doc},
    {"unfollow", unfollow, METH_VARARGS, unfollow_doc},
#endif
    {"pack", pack, METH_VARARGS, pack_doc},
    {"similar_chunks", similar_chunks, METH_VARARGS, similar_chunks_doc},
    {"unpack", unpack, METH_VARARGS, unpack_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_compiled", "The compiled part of the load path.", 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__compiled(void) { return PyModule_Create(&module); }
