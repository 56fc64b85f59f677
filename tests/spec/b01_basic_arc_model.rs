//! One value, several owners; the count follows them, and the last one frees it.

use neuro_core::Arc;

#[test]
pub(crate) fn basic_arc_model() {
    let data = Arc::new(vec![1, 2, 3, 4, 5]);
    assert_eq!(Arc::strong_count(&data), 1);
    let reference1 = data.clone();
    assert_eq!(Arc::strong_count(&data), 2);
    let reference2 = data.clone();
    assert_eq!(Arc::strong_count(&data), 3);
    assert_eq!((&*reference1, &*reference2), (&*data, &*data));

    // When variables go out of scope, the count decreases; the data is gone when it reaches 0.
    let watch = Arc::downgrade(&data);
    drop(reference1);
    drop(reference2);
    assert_eq!(Arc::strong_count(&data), 1);
    assert!(watch.upgrade().is_some());
    drop(data);
    assert!(watch.upgrade().is_none());
}
