//! A child that knows its parent by a weak reference does not keep it alive.

use neuro_core::{Arc, Weak};

struct Node {
    data: i32,
    parent: Option<Weak<Node>>,
    children: Vec<Arc<Node>>,
}

#[test]
pub(crate) fn cycle_detection() {
    let parent = Arc::new(Node {
        data: 1,
        parent: None,
        children: vec![],
    });
    let child = Arc::new(Node {
        data: 2,
        parent: Some(Arc::downgrade(&parent)),
        children: vec![],
    });
    assert!(parent.parent.is_none() && parent.children.is_empty() && child.children.is_empty());

    let up = child.parent.as_ref().expect("the child was given a parent");
    assert_eq!(up.upgrade().map(|node| node.data), Some(1));
    assert_eq!((Arc::strong_count(&parent), Arc::weak_count(&parent)), (1, 1));

    drop(parent);
    assert!(up.upgrade().is_none());
    assert_eq!(child.data, 2);
}
