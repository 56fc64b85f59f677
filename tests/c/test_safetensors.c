/* Safetensors files: there and back, and files that are cut short or lie. */
#include "check.h"

#define SHAPE(...) (sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__}

/* The tests run in a directory of their own. */
static const char *const PATH = "tensors.safetensors";

/* A file of this header and `bytes` bytes of data; the length says `said`, or what it is where that is 0. */
static bool write_file(const char *header, uint64_t said, size_t bytes) {
    FILE *file = fopen(PATH, "wb");
    if (file == NULL) {
        return false;
    }
    uint64_t length = said != 0 ? said : strlen(header);
    for (int i = 0; i < 8; i++) {
        fputc((int)(length >> (8 * i) & 0xff), file);
    }
    fputs(header, file);
    for (size_t i = 0; i < bytes; i++) {
        fputc((int)i, file);
    }
    return fclose(file) == 0;
}

static bool save_two(void) {
    neuro_tensor_t *tensors[2] = {NULL, NULL};
    const char *names[] = {"weight", "bias"};
    bool saved = neuro_tensor_zeros(NULL, NEURO_DTYPE_FLOAT32, SHAPE(2, 3), &tensors[0]) == NEURO_OK
                 && neuro_tensor_zeros(NULL, NEURO_DTYPE_FLOAT16, SHAPE(5), &tensors[1]) == NEURO_OK
                 && neuro_tensor_fill_f64(tensors[0], 1.25) == NEURO_OK
                 && neuro_safetensors_save(PATH, names, tensors, 2) == NEURO_OK;
    neuro_tensor_release(tensors[0]);
    neuro_tensor_release(tensors[1]);
    return saved;
}

static void what_is_saved_is_loaded(void) {
    neuro_pool_t *pool;
    neuro_safetensors_t *file;
    neuro_tensor_t *weight, *bias, *by_place;
    CHECK(save_two());
    CHECK_OK(neuro_pool_create(NULL, &pool));
    CHECK_OK(neuro_safetensors_load(PATH, pool, &file));
    neuro_pool_stats_t stats = {.struct_size = sizeof stats};
    CHECK_OK(neuro_pool_get_stats(pool, &stats));
    CHECK(stats.live_blocks == 2);
    CHECK_OK(neuro_pool_release(pool));
    CHECK(neuro_safetensors_get_count(file) == 2);
    CHECK_OK(neuro_safetensors_get_tensor(file, "weight", &weight));
    CHECK_OK(neuro_safetensors_get_tensor(file, "bias", &bias));
    CHECK(neuro_tensor_get_dtype(weight) == NEURO_DTYPE_FLOAT32 && neuro_tensor_get_shape(weight)[1] == 3);
    CHECK(((const float *)neuro_tensor_get_const_data(weight))[5] == 1.25f);
    CHECK(neuro_tensor_get_alignment(weight) >= 64 && !neuro_tensor_is_readonly(weight));
    CHECK(neuro_tensor_get_dtype(bias) == NEURO_DTYPE_FLOAT16 && neuro_tensor_get_numel(bias) == 5);
    for (size_t i = 0; i < 2; i++) {
        const char *name = neuro_safetensors_get_name(file, i);
        CHECK(name != NULL);
        CHECK_OK(neuro_safetensors_get_tensor_at(file, i, &by_place));
        CHECK(by_place == (strcmp(name, "weight") == 0 ? weight : bias));
    }
    /* One is kept beyond its file. */
    CHECK_OK(neuro_tensor_retain(weight));
    CHECK_OK(neuro_safetensors_release(file));
    CHECK(((const float *)neuro_tensor_get_const_data(weight))[0] == 1.25f);
    CHECK_OK(neuro_tensor_release(weight));
    CHECK_FAILS(neuro_tensor_release(bias), NEURO_INVALID_FREE, "no live neuro_tensor_t");
}

static void a_mapped_file_is_read_only_and_in_no_pool(void) {
    neuro_safetensors_t *file;
    neuro_tensor_t *weight;
    size_t before = live_blocks();
    CHECK(save_two());
    CHECK_OK(neuro_safetensors_map(PATH, &file));
    CHECK_OK(neuro_safetensors_get_tensor(file, "weight", &weight));
    CHECK(live_blocks() == before);
    CHECK(neuro_tensor_is_readonly(weight));
    CHECK(((const float *)neuro_tensor_get_const_data(weight))[3] == 1.25f);
    CHECK_FAILS(neuro_tensor_fill_f64(weight, 0), NEURO_READ_ONLY, "read-only");
    /* Saving over it leaves the mapping as it is. */
    CHECK(save_two());
    CHECK(((const float *)neuro_tensor_get_const_data(weight))[3] == 1.25f);
    CHECK_OK(neuro_safetensors_retain(file));
    CHECK_OK(neuro_safetensors_release(file));
    CHECK_OK(neuro_safetensors_release(file));
}

static void metadata_can_be_asked_for(void) {
    neuro_safetensors_t *file;
    CHECK(write_file("{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 0, 4));
    CHECK_OK(neuro_safetensors_load(PATH, NULL, &file));
    CHECK(strcmp(neuro_safetensors_get_metadata(file, "format"), "pt") == 0);
    neuro_clear_error();
    CHECK(neuro_safetensors_get_metadata(file, "author") == NULL && neuro_last_status() == NEURO_OK);
    CHECK(neuro_safetensors_get_metadata(file, NULL) == NULL && neuro_last_status() == NEURO_INVALID_ARGUMENT);
    CHECK_OK(neuro_safetensors_release(file));
}

/* Neither way of opening takes the file as it stands. */
static bool refused(neuro_status_t status, const char *words) {
    neuro_safetensors_t *files[2] = {(neuro_safetensors_t *)PATH, (neuro_safetensors_t *)PATH};
    for (int map = 0; map < 2; map++) {
        neuro_clear_error();
        neuro_status_t found =
            map ? neuro_safetensors_map(PATH, &files[map]) : neuro_safetensors_load(PATH, NULL, &files[map]);
        if (found != status || files[map] != NULL || strstr(neuro_last_error(), words) == NULL) {
            printf("  got %s: %s\n", neuro_status_name(found), neuro_last_error());
            return false;
        }
    }
    return true;
}

#define LIES(words, header, said, bytes)              \
    do {                                              \
        CHECK(write_file(header, said, bytes));       \
        CHECK(refused(NEURO_FORMAT, words));          \
    } while (0)

#define ENTRY(dtype, shape, offsets) "{\"a\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static void files_that_are_cut_short_are_refused(void) {
    CHECK(save_two());
    FILE *file = fopen(PATH, "rb");
    char bytes[4096];
    CHECK(file != NULL);
    size_t length = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    CHECK(length > 100 && length < sizeof bytes);
    for (size_t cut = 0; cut < length; cut++) {
        file = fopen(PATH, "wb");
        CHECK(file != NULL && fwrite(bytes, 1, cut, file) == cut);
        CHECK(fclose(file) == 0);
        CHECK(refused(NEURO_FORMAT, "not a valid safetensors file"));
    }
}

static void files_that_lie_are_refused(void) {
    LIES("not a valid safetensors file", "not json at all", 0, 0);
    LIES("not a valid safetensors file", "{}", UINT64_MAX, 0);
    LIES("not a valid safetensors file", "{}", 1000000, 0);
    LIES("not a valid safetensors file", ENTRY("U8", "[4]", "[0,4]"), 0, 3);
    LIES("not a valid safetensors file", ENTRY("U8", "[4]", "[0,4]"), 0, 5);
    LIES("not a valid safetensors file", ENTRY("U8", "[4]", "[4,0]"), 0, 4);
    LIES("not a valid safetensors file", ENTRY("U8", "[4]", "[2,6]"), 0, 6);
    LIES("not a valid safetensors file", ENTRY("U8", "[5]", "[0,4]"), 0, 4);
    LIES("not a valid safetensors file", ENTRY("U8", "[-4]", "[0,4]"), 0, 4);
    LIES("not a valid safetensors file", ENTRY("F32", "[4611686018427387904,4]", "[0,4]"), 0, 4);
    LIES("not a valid safetensors file", ENTRY("X9", "[4]", "[0,4]"), 0, 4);
    LIES("the name or text \"a\\0b\" has a NUL in it", "{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 0, 4);
}

static void what_is_not_there_is_named(void) {
    neuro_safetensors_t *file;
    neuro_tensor_t *tensor;
    remove(PATH);
    CHECK(refused(NEURO_IO, PATH));
    CHECK_FAILS(neuro_safetensors_load(".", NULL, &file), NEURO_IO, ".");
    CHECK(save_two());
    CHECK_OK(neuro_safetensors_load(PATH, NULL, &file));
    CHECK_FAILS(neuro_safetensors_get_tensor(file, "wieght", &tensor), NEURO_OUT_OF_RANGE, "\"wieght\"");
    CHECK(tensor == NULL && strstr(neuro_last_error(), "weight") != NULL);
    CHECK_FAILS(neuro_safetensors_get_tensor_at(file, 2, &tensor), NEURO_OUT_OF_RANGE, "tensor 2 is out of range for 2");
    neuro_clear_error();
    CHECK(neuro_safetensors_get_name(file, 2) == NULL && neuro_last_status() == NEURO_OUT_OF_RANGE);
    CHECK_FAILS(neuro_safetensors_get_tensor(file, NULL, &tensor), NEURO_INVALID_ARGUMENT, "name is NULL");
    CHECK_FAILS(neuro_safetensors_get_tensor(NULL, "a", &tensor), NEURO_INVALID_ARGUMENT, "neuro_safetensors_t is NULL");
    CHECK_OK(neuro_safetensors_release(file));
    CHECK_FAILS(neuro_safetensors_get_tensor(file, "a", &tensor), NEURO_INVALID_ARGUMENT, "no live neuro_safetensors_t");
    CHECK_FAILS(neuro_safetensors_release(file), NEURO_INVALID_FREE, "no live neuro_safetensors_t");
    CHECK(neuro_safetensors_get_count(file) == 0);
}

static void saving_needs_a_path_names_and_live_tensors(void) {
    neuro_tensor_t *tensor;
    CHECK_OK(neuro_tensor_zeros(NULL, NEURO_DTYPE_INT8, SHAPE(1), &tensor));
    CHECK_FAILS(neuro_safetensors_save(NULL, NULL, NULL, 0), NEURO_INVALID_ARGUMENT, "path is NULL");
    CHECK_FAILS(neuro_safetensors_save(PATH, NULL, &tensor, 1), NEURO_INVALID_ARGUMENT, "names is NULL");
    CHECK_FAILS(neuro_safetensors_save(PATH, (const char *[]){"a"}, NULL, 1), NEURO_INVALID_ARGUMENT, "tensors is NULL");
    CHECK_FAILS(neuro_safetensors_save(PATH, (const char *[]){NULL}, &tensor, 1), NEURO_INVALID_ARGUMENT, "a name is NULL");
    CHECK_FAILS(neuro_safetensors_save(PATH, (const char *[]){"\xff"}, &tensor, 1), NEURO_INVALID_ARGUMENT, "UTF-8");
    CHECK_FAILS(neuro_safetensors_save(PATH, (const char *[]){"a", "a"}, (neuro_tensor_t *[]){tensor, tensor}, 2),
                NEURO_INVALID_ARGUMENT, "a");
    CHECK_FAILS(neuro_safetensors_save("no/such/directory/x", (const char *[]){"a"}, &tensor, 1), NEURO_IO, "no/such");
    CHECK_OK(neuro_tensor_release(tensor));
    CHECK_FAILS(neuro_safetensors_save(PATH, (const char *[]){"a"}, &tensor, 1), NEURO_INVALID_ARGUMENT, "no live");
}

int main(void) {
    RUN(what_is_saved_is_loaded);
    RUN(a_mapped_file_is_read_only_and_in_no_pool);
    RUN(metadata_can_be_asked_for);
    RUN(files_that_are_cut_short_are_refused);
    RUN(files_that_lie_are_refused);
    RUN(what_is_not_there_is_named);
    RUN(saving_needs_a_path_names_and_live_tensors);
    return DONE();
}
