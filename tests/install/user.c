/* A program of somebody who has installed the library: finds it through pkg-config, uses a pool, gives it back. */
#include <neuro_memory.h>

#include <stdint.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    neuro_pool_options_t options = {0};
    neuro_pool_t *pool = NULL;
    neuro_tensor_t *tensor = NULL;
    const int64_t shape[] = {1000, 1000};

    options.struct_size = sizeof options;
    if (neuro_pool_create(&options, &pool) != NEURO_OK ||
        neuro_tensor_zeros(pool, NEURO_DTYPE_FLOAT32, 2, shape, &tensor) != NEURO_OK) {
        fprintf(stderr, "%s\n", neuro_last_error());
        return 1;
    }
    memset(neuro_tensor_get_data(tensor), 1, sizeof(float) * 1000 * 1000);
    printf("%zu bytes at %zu modulo 64\n", sizeof(float) * 1000 * 1000, (size_t)((uintptr_t)neuro_tensor_get_data(tensor) % 64));
    neuro_tensor_release(tensor);
    neuro_pool_release(pool);
    return 0;
}
