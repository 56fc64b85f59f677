/* Classifies images with a small trained network: weights and images come from safetensors files, every tensor lies in
 * one pool, and the arithmetic is plain C on the tensors' data.
 *
 *     classify WEIGHTS.safetensors IMAGES.safetensors
 *
 * The first file holds hidden.weight [pixels, hidden], hidden.bias [hidden], output.weight [hidden, classes] and
 * output.bias [classes], all float32; the second images [n, pixels], float32, and labels [n], int64. `make demo` writes
 * both. Ends with status 0 if the pool is empty again, 1 if it is not or anything went wrong. */
#include <neuro_memory.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Ends the program with the library's own words if `status` is not NEURO_OK. */
static void must(neuro_status_t status, const char *doing)
{
    if (status != NEURO_OK) {
        fprintf(stderr, "classify: %s: %s (%s)\n", doing, neuro_last_error(), neuro_status_name(status));
        exit(1);
    }
}

/* The tensor `name` of `file`, which keeps owning it. It has to be contiguous and of this dtype and number of axes. */
static neuro_tensor_t *tensor_of(const neuro_safetensors_t *file, const char *name, uint32_t dtype, size_t ndim)
{
    neuro_tensor_t *tensor;
    must(neuro_safetensors_get_tensor(file, name, &tensor), name);
    if (neuro_tensor_get_dtype(tensor) != dtype || neuro_tensor_get_ndim(tensor) != ndim ||
        !neuro_tensor_is_contiguous(tensor)) {
        fprintf(stderr, "classify: %s is %s with %zu axes; needed is %s with %zu\n", name,
                neuro_dtype_name(neuro_tensor_get_dtype(tensor)), neuro_tensor_get_ndim(tensor),
                neuro_dtype_name(dtype), ndim);
        exit(1);
    }
    return tensor;
}

/* Length of axis `axis`. */
static size_t length(const neuro_tensor_t *tensor, size_t axis)
{
    return (size_t)neuro_tensor_get_shape(tensor)[axis];
}

/* Ends the program unless `got`, the length of an axis of `name`, is what the rest of the network needs. */
static void must_be(const char *name, size_t got, size_t needed)
{
    if (got != needed) {
        fprintf(stderr, "classify: %s has an axis of %zu where the others need %zu\n", name, got, needed);
        exit(1);
    }
}

/* One layer: a new tensor `input * weight + bias` in `pool`, negative values cut to zero if `relu`. */
static neuro_tensor_t *layer(neuro_pool_t *pool, const neuro_tensor_t *input, const neuro_tensor_t *weight,
                             const neuro_tensor_t *bias, int relu)
{
    size_t rows = length(input, 0), columns = length(input, 1), outputs = length(weight, 1);
    must_be("weight", length(weight, 0), columns);
    must_be("bias", length(bias, 0), outputs);

    int64_t shape[2] = {(int64_t)rows, (int64_t)outputs};
    neuro_tensor_t *output;
    must(neuro_tensor_empty(pool, NEURO_DTYPE_FLOAT32, 2, shape, &output), "make a layer's output");

    const float *x = neuro_tensor_get_const_data(input);
    const float *w = neuro_tensor_get_const_data(weight);
    const float *b = neuro_tensor_get_const_data(bias);
    float *y = neuro_tensor_get_data(output);
    for (size_t row = 0; row < rows; row++, x += columns, y += outputs) {
        for (size_t j = 0; j < outputs; j++)
            y[j] = b[j];
        for (size_t i = 0; i < columns; i++)
            for (size_t j = 0; j < outputs; j++)
                y[j] += x[i] * w[i * outputs + j];
        for (size_t j = 0; relu && j < outputs; j++)
            y[j] = y[j] > 0 ? y[j] : 0;
    }
    return output;
}

/* How many rows of `scores` have their highest score at the row's label. */
static size_t count_right(const neuro_tensor_t *scores, const neuro_tensor_t *labels)
{
    size_t rows = length(scores, 0), classes = length(scores, 1), right = 0;
    must_be("labels", length(labels, 0), rows);
    const float *score = neuro_tensor_get_const_data(scores);
    const int64_t *label = neuro_tensor_get_const_data(labels);
    for (size_t row = 0; row < rows; row++, score += classes) {
        size_t best = 0;
        for (size_t j = 1; j < classes; j++)
            if (score[j] > score[best])
                best = j;
        right += (int64_t)best == label[row];
    }
    return right;
}

static neuro_pool_stats_t stats_of(const neuro_pool_t *pool)
{
    neuro_pool_stats_t stats = {.struct_size = sizeof stats};
    must(neuro_pool_get_stats(pool, &stats), "read the pool's statistics");
    return stats;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: classify WEIGHTS.safetensors IMAGES.safetensors\n");
        return 2;
    }
    neuro_pool_options_t options = {.struct_size = sizeof options, .limit_bytes = (size_t)64 << 20};
    neuro_pool_t *pool;
    must(neuro_pool_create(&options, &pool), "make a pool of 64 MiB");

    neuro_safetensors_t *weights, *held_out;
    must(neuro_safetensors_load(argv[1], pool, &weights), "load the weights");
    must(neuro_safetensors_load(argv[2], pool, &held_out), "load the images");
    neuro_tensor_t *images = tensor_of(held_out, "images", NEURO_DTYPE_FLOAT32, 2);
    neuro_tensor_t *labels = tensor_of(held_out, "labels", NEURO_DTYPE_INT64, 1);

    neuro_tensor_t *hidden =
        layer(pool, images, tensor_of(weights, "hidden.weight", NEURO_DTYPE_FLOAT32, 2),
              tensor_of(weights, "hidden.bias", NEURO_DTYPE_FLOAT32, 1), 1);
    neuro_tensor_t *scores =
        layer(pool, hidden, tensor_of(weights, "output.weight", NEURO_DTYPE_FLOAT32, 2),
              tensor_of(weights, "output.bias", NEURO_DTYPE_FLOAT32, 1), 0);

    size_t right = count_right(scores, labels), total = length(images, 0);
    printf("right: %zu of %zu\n", right, total);
    printf("accuracy: %.4f\n", (double)right / (double)total);
    printf("alignment of images, hidden, scores: %zu, %zu, %zu B\n", neuro_tensor_get_alignment(images),
           neuro_tensor_get_alignment(hidden), neuro_tensor_get_alignment(scores));
    neuro_pool_stats_t busy = stats_of(pool);
    printf("pool in use: %zu B live in %zu blocks, %" PRIu64 " allocations\n", busy.live_bytes, busy.live_blocks,
           busy.total_allocations);

    must(neuro_tensor_release(scores), "release the scores");
    must(neuro_tensor_release(hidden), "release the hidden layer");
    must(neuro_safetensors_release(held_out), "release the images");
    must(neuro_safetensors_release(weights), "release the weights");

    size_t given_back;
    must(neuro_pool_trim(pool, 0, &given_back), "trim the pool");
    neuro_pool_stats_t done = stats_of(pool);
    printf("pool at the end: %zu B live in %zu blocks, peak %zu B, %zu B given back\n", done.live_bytes,
           done.live_blocks, done.peak_bytes, given_back);
    must(neuro_pool_release(pool), "release the pool");
    return done.live_bytes == 0 && done.live_blocks == 0 ? 0 : 1;
}
