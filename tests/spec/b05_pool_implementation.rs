//! Memory for `count` values of a type: aligned, found in a free block or in new memory, back in the pool when dropped.

use neuro_core::MemoryPool;

#[test]
pub(crate) fn pool_implementation() {
    const LIMIT: usize = 1 << 20;
    let pool = MemoryPool::new(LIMIT);
    let mut first = pool.allocate::<f32>(1000).expect("4,000 bytes of a MiB");
    assert_eq!(first.len(), 1000);
    assert_eq!(first.as_ptr() as usize % 64, 0);
    for (index, value) in first.as_uninit_mut().iter_mut().enumerate() {
        value.write(index as f32);
    }
    let second = pool.allocate::<u8>(1).expect("a byte more");
    assert_ne!(second.as_ptr(), first.as_ptr().cast());
    assert_eq!(pool.stats().live_blocks, 2);

    // A free block is used again before new memory is.
    let freed = first.as_ptr();
    drop(first);
    let third = pool.allocate::<f32>(1000).expect("as much as was freed");
    assert_eq!(third.as_ptr(), freed);

    // The size given to `new` is a limit.
    assert!(pool.allocate::<u8>(LIMIT).is_err());
    drop((second, third));
    assert_eq!(pool.stats().live_bytes, 0);
    assert!(pool.allocate::<u8>(LIMIT).is_ok());
}
