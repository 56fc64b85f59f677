//! Data that is expensive to copy, read by several threads, each with a handle of its own.

use std::thread;

use neuro_core::Arc;

/// Stands for a trained network.
fn load_neural_network() -> Vec<f32> {
    (0..1000).map(|index| index as f32).collect()
}

/// Stands for a data set.
fn load_dataset() -> Vec<u64> {
    (1..=100_000).collect()
}

/// Sums the data on two threads; takes the handle, not the data.
fn process_data_parallel(dataset: Arc<Vec<u64>>) -> u64 {
    let halves = [0..dataset.len() / 2, dataset.len() / 2..dataset.len()];
    let workers = halves.map(|range| {
        let dataset = dataset.clone();
        thread::spawn(move || dataset[range].iter().sum::<u64>())
    });
    workers
        .into_iter()
        .map(|worker| worker.join().expect("a worker panicked"))
        .sum()
}

#[test]
pub(crate) fn when_to_use_arc() {
    let model_weights = Arc::new(load_neural_network());
    let thread1_weights = model_weights.clone();
    let thread2_weights = model_weights.clone();
    // One copy of the weights, wherever they are read.
    assert!(Arc::ptr_eq(&thread1_weights, &thread2_weights));
    let sums = [thread1_weights, thread2_weights]
        .map(|weights| thread::spawn(move || weights.iter().sum::<f32>()))
        .map(|thread| thread.join().expect("a reader panicked"));
    assert_eq!(sums, [499_500.0; 2]);
    assert_eq!(Arc::strong_count(&model_weights), 1);

    let large_dataset = Arc::new(load_dataset());
    assert_eq!(process_data_parallel(large_dataset), 5_000_050_000);
}
