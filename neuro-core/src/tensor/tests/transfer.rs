//! Tensors on their way, on the simulated device.

use std::sync::mpsc;
use std::time::Duration;

use super::device::{device, host};
use super::*;
use crate::error::Error;

fn numbers(len: usize, salt: i32) -> (DynTensor, Vec<i32>) {
    let values: Vec<i32> = (0..len as i32).map(|at| at.wrapping_mul(31) ^ salt).collect();
    (DynTensor::from_slice(&[len], &values).unwrap(), values)
}

#[test]
fn many_at_once_arrive_whole_and_everything_comes_back() {
    let (pool, sim) = device(21);
    let sent: Vec<_> = (0..40).map(|salt| numbers(1 + 977 * salt as usize, salt)).collect();
    let up: Vec<_> = sent
        .iter()
        .map(|(tensor, _)| tensor.to_pool_async(&pool).unwrap())
        .collect();
    let across: Vec<_> = up
        .iter()
        .map(|up| up.wait().unwrap().to_pool_async(&pool).unwrap())
        .collect();
    let down: Vec<_> = across
        .iter()
        .map(|there| there.wait().unwrap().to_pool_async(&host()).unwrap())
        .collect();
    for (down, (_, values)) in down.iter().zip(&sent) {
        let tensor = down.wait().unwrap();
        assert!(down.is_done());
        assert_eq!(
            (tensor.device(), tensor.to_vec::<i32>().unwrap()),
            (Device::Cpu, values.clone())
        );
    }
    drop((up, across, down));
    pool.trim(0);
    assert_eq!((sim.findings(), pool.stats().live_blocks), (vec![], 0));
}

#[test]
fn a_view_is_put_in_order_on_the_way() {
    let (pool, sim) = device(22);
    let (tensor, _) = numbers(600, 5);
    let view = tensor.reshape(&[20, 30]).unwrap().transpose();
    let there = view.to_pool_async(&pool).unwrap().wait().unwrap();
    let back = there.transpose().to_pool_async(&host()).unwrap().wait().unwrap();
    assert_eq!(back.to_vec::<i32>().unwrap(), tensor.to_vec::<i32>().unwrap());
    assert_eq!(sim.findings(), [""; 0]);
}

/// Source, transfer and result may go at any time: the transfer reaches its end, and nothing stays.
#[test]
fn dropped_on_the_way() {
    for seed in 0..20 {
        let (pool, sim) = device(seed);
        let (say, hear) = mpsc::channel();
        for salt in 0..10 {
            let (tensor, values) = numbers(9000, salt);
            let transfer = tensor.to_pool_async(&pool).unwrap();
            drop(tensor);
            let say = say.clone();
            transfer.then(move |there| {
                let back = there.unwrap().to_pool(&host()).unwrap();
                say.send(back.to_vec::<i32>().unwrap() == values).unwrap();
            });
            drop(transfer);
            drop(numbers(9000, -salt).0.to_pool_async(&pool).unwrap());
        }
        drop(say);
        let heard: Vec<bool> = hear.iter().collect();
        assert_eq!(heard, [true; 10], "seed {seed}");
        // The last of those that nobody asked about.
        let (last, _) = numbers(1, 0);
        last.to_pool_async(&pool).unwrap().wait().unwrap();
        let gone = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(2));
            pool.stats().live_blocks == 0
        });
        assert!(gone, "seed {seed}: {:?}", pool.stats());
        assert_eq!(sim.findings(), [""; 0], "seed {seed}");
    }
}

#[test]
fn callbacks_run_once_each_and_a_panic_harms_nobody() {
    let (pool, _) = device(23);
    let (tensor, values) = numbers(50_000, 1);
    let transfer = tensor.to_pool_async(&pool).unwrap();
    let (say, hear) = mpsc::channel();
    for number in 0..3 {
        let say = say.clone();
        let callback = move |result: Result<DynTensor>| {
            say.send((number, result.is_ok())).unwrap();
            // Not by `panic!`, which would write to the test's output.
            std::panic::resume_unwind(Box::new("a callback that panics"));
        };
        // If the transfer is over by now, the panic comes out here.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| transfer.then(callback)));
    }
    let there = transfer.wait().unwrap();
    assert_eq!(there.to_pool(&host()).unwrap().to_vec::<i32>().unwrap(), values);
    let mut heard: Vec<_> = (0..3)
        .map(|_| hear.recv_timeout(Duration::from_secs(10)).unwrap())
        .collect();
    heard.sort_unstable();
    assert_eq!(heard, [(0, true), (1, true), (2, true)]);
    // Over: at once, on this thread.
    let here = std::thread::current().id();
    let (say, hear) = mpsc::channel();
    transfer.then(move |_| say.send(std::thread::current().id()).unwrap());
    assert_eq!(hear.try_recv(), Ok(here));
    // The lane works on.
    assert!(tensor.to_pool_async(&pool).unwrap().wait().is_ok());
}

/// Each call of the driver refused once, and a lost device: the transfer says so, and the next one works.
#[test]
fn what_goes_wrong_on_the_way_is_told() {
    let mut failed = 0;
    for n in 1..8 {
        let (pool, sim) = device(30 + u64::from(n));
        let (tensor, values) = numbers(12_000, n as i32); // three pieces
        sim.fail_nth(n);
        let there = tensor.to_pool_async(&pool).and_then(|transfer| transfer.wait());
        failed += usize::from(there.is_err());
        sim.fail_nth(0);
        let there = tensor.to_pool_async(&pool).unwrap().wait().unwrap();
        let back = there.to_pool_async(&host()).unwrap().wait().unwrap();
        assert_eq!((back.to_vec::<i32>().unwrap(), sim.findings()), (values, vec![]), "{n}");
    }
    assert_eq!(failed, 5, "a slab, the ring, and each piece");
    let (pool, sim) = device(40);
    let there = numbers(100, 1).0.to_pool(&pool).unwrap();
    sim.lose();
    let lost = |result: Result<DynTensor>| matches!(result, Err(Error::DeviceLost { .. }));
    assert!(lost(there.to_pool_async(&host()).and_then(|transfer| transfer.wait())));
    assert!(lost(
        numbers(100, 1)
            .0
            .to_pool_async(&pool)
            .and_then(|transfer| transfer.wait())
    ));
}

#[test]
fn what_cannot_be_is_said_at_once() {
    let (pool, _) = device(41);
    let (tensor, _) = numbers(4 << 20, 0); // 16 MiB; the pool has 8
    assert!(matches!(tensor.to_pool_async(&pool), Err(Error::OutOfMemory { .. })));
    assert!(matches!(
        tensor.to_device_async(Device::Cuda(0)),
        Err(Error::Unavailable { .. })
    ));
    // Nothing to do is done.
    let same = tensor.to_device_async(Device::Cpu).unwrap();
    assert!(same.is_done());
    assert_eq!(same.wait().unwrap().data_ptr(), tensor.data_ptr());
}
