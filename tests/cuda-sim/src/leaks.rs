//! What was not given back.

use crate::space::Kind;
use crate::state::State;

impl State {
    pub(crate) fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        for piece in self.space.pieces.values() {
            let more = match piece.kind {
                Kind::Piece(_) if piece.held => format!(", held, mapped {} times", piece.mapped),
                Kind::Piece(_) => format!(", released, mapped {} times", piece.mapped),
                _ => String::new(),
            };
            leaks.push(format!("{}{more}", piece.words()));
        }
        for (start, bytes) in &self.space.ranges {
            leaks.push(format!("range of addresses ({start:#x}, {bytes} B)"));
        }
        for (number, stream) in self.streams.iter() {
            let device = &self.devices[stream.device as usize];
            let own = [device.legacy, device.per_thread].contains(&Some(number));
            if !own && !stream.destroyed {
                leaks.push(format!("stream {number} of device {}", stream.device));
            }
        }
        for (number, event) in self.events.iter() {
            leaks.push(format!("event {number} of device {}", event.device));
        }
        for (number, module) in self.modules.iter() {
            leaks.push(format!("module {number} of device {}", module.device));
        }
        for (number, device) in self.devices.iter().enumerate() {
            if device.retained > 0 {
                leaks.push(format!(
                    "context of device {number}, retained {} times",
                    device.retained
                ));
            }
        }
        for (device, pushed) in &self.pushed {
            if *pushed != 0 {
                leaks.push(format!(
                    "context of device {device}, pushed {pushed} times more than popped"
                ));
            }
        }
        leaks
    }
}
