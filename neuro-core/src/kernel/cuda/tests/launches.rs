//! Launches on the device that plays one of CUDA's: their order with all else, what is refused before anything is submitted, and when
//! modules go.

use std::sync::Arc;

use super::super::{Arg, Function, Grid, Module};
use super::fake::{Fake, KERNELS};
use crate::backend::Queue;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Error;
use crate::pool::MemoryPool;
use crate::pool::device::Engine;
use crate::tensor::{DynTensor, Scalar};

fn kernels(engine: &Arc<Engine>) -> [Function; 2] {
    let module = Module::load_on(Arc::clone(engine), b"// PTX").unwrap();
    KERNELS.map(|(name, signature)| module.function(name, Some(signature)).unwrap())
}

fn floats(pool: &MemoryPool, count: usize) -> DynTensor {
    let values: Vec<f32> = (0u8..).map(f32::from).take(count).collect();
    DynTensor::from_slice(&[count], &values).unwrap().to_pool(pool).unwrap()
}

fn launch(function: &Function, arguments: &[Arg<'_>]) -> Result<(), Error> {
    // SAFETY: the kernels of the fake stay within what they are given, and end.
    unsafe { function.launch(&Grid::for_elements(8, 4).unwrap(), arguments) }
}

#[test]
fn launches_are_in_order_with_everything_else() {
    for seed in 1..40 {
        let (fake, engine, pool) = Fake::new(seed, (9, 0));
        let [copy, fill] = kernels(&engine);
        for round in 0..8u8 {
            let from = floats(&pool, 200); // an upload is under way, and what it goes to was another's
            let to = DynTensor::zeros_in(&pool, None, &[200], DType::F32).unwrap();
            launch(&copy, &[(&from).into(), (&to).into(), 200.into()]).unwrap();
            launch(&fill, &[(&from).into(), f32::from(round).into(), 100u8.into()]).unwrap();
            let part = to.slice(0, 50, 200, 1).unwrap();
            launch(&fill, &[(&part).into(), Scalar::Float(7.5).into(), 10u64.into()]).unwrap();
            let (from, to) = (from.to_device(Device::Cpu).unwrap(), to.to_device(Device::Cpu).unwrap());
            let (from, to) = (from.to_vec::<f32>().unwrap(), to.to_vec::<f32>().unwrap());
            assert_eq!((from[99], from[100]), (f32::from(round), 100.0));
            assert_eq!((to[49], to[50], to[59], to[60], to[199]), (49.0, 7.5, 7.5, 60.0, 199.0));
        }
        assert_eq!(fake.sim.findings(), Vec::<String>::new());
        assert_eq!(fake.launches()[0], ([2, 1, 1], [4, 1, 1], 0));
    }
}

/// What is said of the arguments that are refused; and nothing is submitted.
fn said(fake: &Fake, function: &Function, arguments: &[Arg<'_>]) -> (String, Error) {
    let before = fake.sim.submitted(Queue::COMPUTE);
    let error = launch(function, arguments).unwrap_err();
    assert_eq!((fake.sim.submitted(Queue::COMPUTE), fake.launches().len()), (before, 0));
    let text = error.to_string();
    match error {
        Error::KernelArgument { why, .. } => (text, *why),
        error => (text, error),
    }
}

#[test]
fn arguments_that_do_not_go_with_their_parameters_are_refused_by_place() {
    let (fake, engine, pool) = Fake::new(1, (9, 0));
    let [copy, fill] = kernels(&engine);
    let good = floats(&pool, 8);
    let tensor = Arg::from(&good);

    let (text, why) = said(fake, &copy, &[tensor, tensor]);
    assert!(matches!(why, Error::InvalidArgument { .. }));
    assert!(
        text.contains("kernel copy has 3 parameters (const float* from, float* to, unsigned int n), and 2"),
        "{text}"
    );

    let host = DynTensor::zeros(&[8], DType::F32).unwrap();
    let (text, why) = said(fake, &copy, &[(&host).into(), tensor, 8.into()]);
    assert!(matches!(why, Error::InvalidArgument { .. }));
    assert!(
        text.contains("kernel copy: argument 1 (const float* from): ")
            && text.contains("lies on cpu, and the kernel on cuda:0"),
        "{text}"
    );

    let (_, _, elsewhere) = Fake::new(2, (9, 0));
    let other = floats(&elsewhere, 8);
    assert!(matches!(
        said(fake, &copy, &[tensor, (&other).into(), 8.into()]).1,
        Error::InvalidArgument { .. }
    ));

    let doubles = DynTensor::zeros_in(&pool, None, &[8], DType::F64).unwrap();
    let (text, why) = said(fake, &copy, &[tensor, (&doubles).into(), 8.into()]);
    assert!(matches!(
        why,
        Error::DTypeMismatch {
            asked: DType::F32,
            got: DType::F64,
            ..
        }
    ));
    assert!(
        text.contains("argument 2 (float* to): launch: asked for float32"),
        "{text}"
    );

    let every_second = good.slice(0, 0, 8, 2).unwrap();
    assert!(matches!(
        said(fake, &copy, &[tensor, (&every_second).into(), 4.into()]).1,
        Error::NotContiguous { .. }
    ));

    for (value, text) in [
        (Arg::from(-1), "-1 does not fit uint32"),
        (Arg::from(1u64 << 32), "4294967296 does not fit uint32"),
        (Arg::from(0.5), "0.5 does not fit uint32"),
        (
            tensor,
            "a tensor of shape [8] is given where a number (uint32) is needed",
        ),
    ] {
        let (said, why) = said(fake, &copy, &[tensor, tensor, value]);
        assert!(matches!(why, Error::InvalidArgument { .. }));
        assert!(
            said.contains("argument 3 (unsigned int n)") && said.contains(text),
            "{said}"
        );
    }
    for (value, text) in [
        (
            Arg::from(16_777_217),
            "float32 does not hold the integer 16777217 exactly",
        ),
        (Arg::from(1e300), "does not fit float32"),
    ] {
        let (said, _) = said(fake, &fill, &[tensor, value, 8.into()]);
        assert!(
            said.contains("argument 2 (float value)") && said.contains(text),
            "{said}"
        );
    }
    let (text, _) = said(fake, &copy, &[tensor, 1.into(), 8.into()]);
    assert!(
        text.contains("argument 2 (float* to): launch: 1 is given where a tensor is needed"),
        "{text}"
    );

    let grid = Grid {
        blocks: [0, 1, 1],
        threads: [1, 1, 1],
        shared_bytes: 0,
    };
    // SAFETY: it is refused.
    let error = unsafe { copy.launch(&grid, &[]) }.unwrap_err().to_string();
    assert!(
        error.contains("kernel copy") && error.contains("0 are asked for"),
        "{error}"
    );
}

#[test]
fn what_the_kernel_only_reads_may_be_read_only_and_any_pointer_takes_any_type() {
    let (_, engine, pool) = Fake::new(1, (9, 0));
    let module = Module::load_on(engine, b"// PTX").unwrap();
    let copy = module.function("copy", Some("const void*, void*, long n")).unwrap();
    let (from, to) = (
        floats(&pool, 8),
        DynTensor::zeros_in(&pool, None, &[8], DType::I32).unwrap(),
    );
    launch(&copy, &[(&from).into(), (&to).into(), 8.into()]).unwrap();
    let back = to.to_device(Device::Cpu).unwrap().to_vec::<i32>().unwrap();
    assert_eq!(back[1], i32::from_ne_bytes(1f32.to_ne_bytes()));
    // No elements: an address that is not followed.
    let none = DynTensor::zeros_in(&pool, None, &[0], DType::F32).unwrap();
    launch(&copy, &[(&none).into(), (&none).into(), 0.into()]).unwrap();
}

#[test]
fn a_module_goes_when_its_launches_are_done() {
    let (fake, engine, pool) = Fake::new(3, (9, 0));
    let tensor = floats(&pool, 8);
    let [copy, fill] = kernels(&engine);
    drop(copy);
    engine.poll().unwrap();
    assert!(fake.unloaded().is_empty()); // `fill` has it
    launch(&fill, &[(&tensor).into(), 2.0f32.into(), 8.into()]).unwrap();
    drop(fill);
    engine.wait(&[]).unwrap(); // lets go of what is known to be done
    assert!(fake.unloaded().is_empty());
    tensor.synchronize().unwrap();
    engine.poll().unwrap();
    assert_eq!(fake.unloaded(), [1]);
    assert_eq!(fake.sim.findings(), Vec::<String>::new());
}

#[test]
fn what_the_driver_refuses_names_the_kernel_and_changes_nothing() {
    let (fake, engine, pool) = Fake::new(4, (9, 0));
    let tensor = floats(&pool, 8);
    let [_, fill] = kernels(&engine);
    fake.refuse_launches();
    let error = launch(&fill, &[(&tensor).into(), 2.0f32.into(), 8.into()])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("701") && error.contains("kernel fill, blocks [2, 1, 1] of [4, 1, 1] threads"),
        "{error}"
    );
    let back = tensor.to_device(Device::Cpu).unwrap();
    assert_eq!(back.item::<f32>(&[3]).unwrap(), 3.0);
    assert_eq!(fake.sim.findings(), Vec::<String>::new());

    let module = Module::load_on(Arc::clone(&engine), b"// PTX").unwrap();
    let error = module.function("absent", Some("")).unwrap_err().to_string();
    assert!(error.contains("500") && error.contains("kernel absent"), "{error}");
    let error = module.function("fill", None).unwrap_err().to_string();
    assert!(
        error.contains("kernel fill: the module was not compiled here; give the signature"),
        "{error}"
    );
    for empty in [&b""[..], b"\0"] {
        assert!(matches!(
            Module::load_on(Arc::clone(&engine), empty),
            Err(Error::InvalidArgument { .. })
        ));
    }
    let error = Module::load_on(engine, b"nonsense").unwrap_err().to_string();
    assert!(error.contains("218") && error.contains("no PTX"), "{error}");
}
