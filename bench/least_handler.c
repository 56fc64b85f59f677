/* The least that a NumPy handler can do for arrays of 256 bytes: it keeps a few and hands them out again, without a check, a
 * count or a thought for threads. What it costs beside NumPy's own handler is what NumPy charges for any other one. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <numpy/arrayobject.h>
#include <stdlib.h>

enum { BYTES = 256, PLACES = 64 };
static void *kept[PLACES];
static int count;

static void *take(void *ctx, size_t bytes) {
    (void)ctx;
    return bytes == BYTES && count > 0 ? kept[--count] : malloc(bytes);
}

static void *zeros(void *ctx, size_t length, size_t bytes) {
    (void)ctx;
    return calloc(length, bytes);
}

static void *resize(void *ctx, void *block, size_t bytes) {
    (void)ctx;
    return realloc(block, bytes);
}

static void give(void *ctx, void *block, size_t bytes) {
    (void)ctx;
    if (bytes == BYTES && count < PLACES) {
        kept[count++] = block;
    } else {
        free(block);
    }
}

static PyDataMem_Handler handler = {"least", 1, {NULL, take, zeros, resize, give}};

static PyObject *install(PyObject *module, PyObject *none) {
    (void)module, (void)none;
    PyObject *capsule = PyCapsule_New(&handler, "mem_handler", NULL);
    PyObject *before = capsule == NULL ? NULL : PyDataMem_SetHandler(capsule);
    Py_XDECREF(capsule);
    return before;
}

static PyMethodDef functions[] = {{"install", install, METH_NOARGS, "Makes it NumPy's handler."}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "least_handler", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC PyInit_least_handler(void) {
    import_array();
    return PyModule_Create(&definition);
}
