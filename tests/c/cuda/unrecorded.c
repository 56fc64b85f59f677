/* A program that is wrong, unless RECORDED is set: a side stream uses a block of PyTorch's allocator, and nobody says so (record_stream), so the memory is
 * handed out again while that is under way. On the simulated driver its process ends with status 86. */
#include "../hooks.h"

static void a_side_stream(void) {
    CHECK(open_driver());
    neuro_pool_t *pool = pool_of(1 << 20);
    uint32_t number = 0;
    CHECK_OK(neuro_torch_bind(pool, NEURO_TORCH_RETURN_NULL, &number));
    torch_t torch = functions_of(number);
    void *main_stream = NULL, *side = NULL;
    CHECK(cu.create(&main_stream, 1) == 0 && cu.create(&side, 1) == 0);

    void *block = torch.alloc(4 * COUNT, 0, main_stream);
    CHECK(block != NULL && fills(block, 1, COUNT, main_stream));
    CHECK(cu.synchronize(main_stream) == 0); /* so the side stream may use it */
    CHECK(fills(block, 2, COUNT, side));
    if (getenv("RECORDED") != NULL) {
        torch.record_stream(block, side);
    }
    torch.release(block, 4 * COUNT, 0, main_stream);
    void *next = torch.alloc(4 * COUNT, 0, main_stream);
    CHECK(next != NULL && fills(next, 3, COUNT, main_stream));
    torch.release(next, 4 * COUNT, 0, main_stream);

    CHECK(cu.synchronize(main_stream) == 0 && cu.synchronize(side) == 0);
    CHECK_OK(neuro_torch_unbind(number));
    CHECK(cu.destroy(main_stream) == 0 && cu.destroy(side) == 0);
    CHECK_OK(neuro_pool_release(pool));
}

int main(void) {
    if (!has_cuda("a side stream of PyTorch")) {
        return DONE();
    }
    RUN(a_side_stream);
    return DONE();
}
