/* The compiled part of the load path: reading many sockets, decoding chunks that differ only in their text, and the
   arrival times of reads.

   Optional. `connections`, `event_decoding` and `arrivals` do the same in Python, and tests hold both to the same results.
   Only the limited API of Python 3.11 is used: one file serves all later versions. */

#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define BUFFER_BYTES 262144
#define STAMP_BYTES 16 /* seconds and ns, 64 bits each */
#define MOST_CHUNK 4095 /* a larger chunk is left to Python */

static char buffer[BUFFER_BYTES]; /* used only while the interpreter lock is held */

/* time.monotonic_ns() */
static int64_t monotonic_ns(void) {
#ifdef __APPLE__
    return (int64_t)clock_gettime_nsec_np(CLOCK_UPTIME_RAW);
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
#endif
}

/* Sets the size of a bytearray. Its memory doubles as it grows: PyByteArray_Resize alone adds an eighth at most. */
static int resize(PyObject *array, Py_ssize_t before, Py_ssize_t size) {
    Py_ssize_t room = 256;
    while (room <= size)
        room *= 2;
    if (before < room / 2)
        return PyByteArray_Resize(array, room - 1) < 0 ? -1 : PyByteArray_Resize(array, size);
    return PyByteArray_Resize(array, size);
}

/* Adds `size` bytes to a bytearray. -1 with an exception set if it is not one, or cannot grow. */
static int append(PyObject *array, const void *data, Py_ssize_t size) {
    if (array == NULL || !PyByteArray_Check(array)) {
        PyErr_SetString(PyExc_TypeError, "not a bytearray");
        return -1;
    }
    Py_ssize_t before = PyByteArray_Size(array);
    if (resize(array, before, before + size) < 0)
        return -1;
    memcpy(PyByteArray_AsString(array) + before, data, (size_t)size);
    return 0;
}

static int append_to_list(PyObject *list, PyObject *item) {
    int failed = item == NULL || PyList_Append(list, item) < 0;
    Py_XDECREF(item);
    return failed ? -1 : 0;
}

/* One read of a socket into `buffer`, and its kernel stamp, zeros without one. Count or -1, as recvmsg(). */
static ssize_t read_once(int fd, int stamps, char *stamp) {
    union { struct cmsghdr align; char bytes[128]; } control;
    struct iovec place = {buffer, BUFFER_BYTES};
    struct msghdr message = {.msg_iov = &place, .msg_iovlen = 1};
    if (!stamps)
        return recv(fd, buffer, BUFFER_BYTES, 0);
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    memset(stamp, 0, STAMP_BYTES);
    ssize_t count = recvmsg(fd, &message, 0);
    struct cmsghdr *first = count > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (first != NULL && first->cmsg_len >= CMSG_LEN(STAMP_BYTES))
        memcpy(stamp, CMSG_DATA(first), STAMP_BYTES);
    return count;
}

/* Reads one socket and keeps what came in `kept`: (raw, lengths, read_ns, kernel), all bytearrays.
   1: an answer may have ended; 0: it has not; -1: an exception is set; 2: the connection has ended, see `code`; 3: there
   was nothing to read. */
static int receive_one(int fd, PyObject *kept, int stamps, Py_ssize_t limit, int *code) {
    char stamp[STAMP_BYTES];
    ssize_t count = read_once(fd, stamps, stamp);
    int64_t read_ns = monotonic_ns();
    if (count <= 0) {
        *code = count == 0 ? 0 : errno;
        return *code == EAGAIN || *code == EWOULDBLOCK || *code == EINTR ? 3 : 2;
    }
    uint32_t length = (uint32_t)count;
    PyObject *raw = PyTuple_GetItem(kept, 0);
    if (append(raw, buffer, count) < 0 || append(PyTuple_GetItem(kept, 1), &length, sizeof length) < 0 ||
        append(PyTuple_GetItem(kept, 2), &read_ns, sizeof read_ns) < 0 ||
        (stamps && append(PyTuple_GetItem(kept, 3), stamp, STAMP_BYTES) < 0))
        return -1;
    Py_ssize_t size = PyByteArray_Size(raw);
    return size > limit || (size >= 4 && memcmp(PyByteArray_AsString(raw) + size - 4, "\r\n\r\n", 4) == 0);
}

PyDoc_STRVAR(receive_doc,
"receive(ready, kept, stamps, limit)\n--\n\n"
"Read the sockets of `ready` (descriptor, mask) that `kept` has. Returns the other entries of `ready`; the descriptors\n"
"where an answer may have ended or exceeds `limit` bytes; descriptor and errno (0: its end) of closed connections;\n"
"and the number of reads.");

static PyObject *receive(PyObject *self, PyObject *args) {
    PyObject *ready, *kept, *others = PyList_New(0), *ended = PyList_New(0), *closed = PyList_New(0);
    Py_ssize_t limit, reads = 0;
    int stamps;
    if (others == NULL || ended == NULL || closed == NULL || !PyArg_ParseTuple(args, "OOpn", &ready, &kept, &stamps, &limit))
        goto failed;
    Py_ssize_t total = PyList_Size(ready);
    if (total < 0)
        goto failed;
    for (Py_ssize_t place = 0; place < total; place++) {
        PyObject *entry = PyList_GetItem(ready, place), *key = entry ? PyTuple_GetItem(entry, 0) : NULL;
        PyObject *found = key ? PyDict_GetItemWithError(kept, key) : NULL;
        if (found == NULL) {
            if (PyErr_Occurred() || PyList_Append(others, entry) < 0)
                goto failed;
            continue;
        }
        int code = 0, state = receive_one((int)PyLong_AsLong(key), found, stamps, limit, &code);
        if (state < 0 || (state == 1 && PyList_Append(ended, key) < 0) ||
            (state == 2 && append_to_list(closed, Py_BuildValue("(Oi)", key, code)) < 0))
            goto failed;
        reads += state == 0 || state == 1;
    }
    return Py_BuildValue("(NNNn)", others, ended, closed, reads);
failed:
    Py_XDECREF(others);
    Py_XDECREF(ended);
    Py_XDECREF(closed);
    return NULL;
}

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

PyDoc_STRVAR(arrivals_doc,
"arrivals(read_ns, kernel, offset_ns, sent_ns, tolerance_ns)\n--\n\n"
"`arrivals.Arrivals` of reads with kernel stamps: at_ns and lag_ns (i64), and the number of errors.");

static PyObject *arrivals(PyObject *self, PyObject *args) {
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

static PyMethodDef methods[] = {
    {"arrivals", arrivals, METH_VARARGS, arrivals_doc},
    {"receive", receive, METH_VARARGS, receive_doc},
    {"similar_chunks", similar_chunks, METH_VARARGS, similar_chunks_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_compiled", "The compiled part of the load path.", 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__compiled(void) { return PyModule_Create(&module); }
