//! The rules of all backends on the driver that this machine has: a card's own, where there is one. It is opened as programs open it, and each rule
//! has a device of its own, in the primary context that they all share.

use super::*;

fn on_this_machine(rule: fn(&dyn Backend)) {
    let Some(driver) = driver_of_the_machine() else { return };
    let device = CudaDevice::make(driver, 0).unwrap();
    rule(&device);
    // SAFETY: the rule is through, and nobody else has the device.
    unsafe { device.shut_down(&[]) };
}

crate::backend::contract::contract!(with on_this_machine);

/// Rules at once, each on a device of its own: all but those that take all memory.
#[test]
fn devices_of_one_card_do_not_disturb_each_other() {
    use crate::backend::contract::*;
    std::thread::scope(|scope| {
        for rule in [
            b1_work_of_a_queue_is_done_in_order,
            b2_waits_order_queues,
            b4_what_work_wrote_is_seen,
            b9_from_many_threads,
            b10_host_memory_is_used_where_it_lies,
        ] {
            scope.spawn(move || on_this_machine(rule));
        }
    });
}
