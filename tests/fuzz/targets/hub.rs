//! Many clients of every protocol at once, a camera that comes and goes, reloads and time. Each client checks all that it is
//! sent; at the end every slot, call and name must be free.
#![no_main]

use std::time::Duration;

use camd::protocol::call::{self, Kind};
use camd::source::Fault;
use camd_fuzz::{ASK, Input, LISTENERS, World, with_world};

/// More than there is room for.
const CLIENTS: usize = 90;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    with_world(|world| {
        let mut input = Input(data);
        world.film.borrow_mut().gives_back = input.byte() & 1 != 0;
        while !input.is_empty() {
            step(world, &mut input);
        }
        world.reconfigure(0);
        world.clear();
    });
});

fn step(world: &mut World, input: &mut Input<'_>) {
    let op = input.byte();
    let count = world.clients.len();
    match op & 15 {
        0 if count < CLIENTS => {
            let listener = usize::from(op >> 4) % LISTENERS;
            let room = 1 << (8 + input.byte() % 13);
            world.connect(listener, room, input.byte() % 8);
        }
        // A crowd.
        1 if count + 16 < CLIENTS => {
            let from = input.byte();
            for n in 0..16 {
                // Of one address, or each of another.
                let number = if from & 1 == 0 { from } else { n };
                world.connect(usize::from(op >> 4) % LISTENERS, 1 << 20, number);
            }
        }
        2 => world.shoot(),
        3 => world.film.borrow_mut().next = Some(Err(Fault("it broke".into()))),
        4 => world.film.borrow_mut().absent = op & 16 != 0,
        5 => world.now += Duration::from_millis(u64::from(op >> 4) * 40),
        6 => world.now += Duration::from_secs(u64::from(op >> 4) * 4),
        7 => world.reconfigure(op >> 4),
        8 => world.turn(),
        _ if count == 0 => {}
        9 => {
            let most = usize::from(input.word());
            client(world, input).take(most);
        }
        10 => client(world, input).end(),
        11 => client(world, input).leave(),
        12 => {
            let length = usize::from(input.byte());
            let bytes = input.take(length);
            client(world, input).send(bytes);
        }
        13 => {
            let words: &[u8] = match op >> 4 {
                0 => ASK,
                1 => b"ack",
                2 => b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n",
                3 => b"GET /snapshot HTTP/1.1\r\nHost: x\r\n\r\n",
                4 => b"GET /state HTTP/1.1\r\nHost: x\r\n\r\n",
                5 => b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                6 => b"GET /metrics HTTP/1.0\r\n\r\n",
                7 => {
                    b"POST /controls HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\nbrightness=9"
                }
                8 => b"GET /stream?max_fps=1&width=16 HTTP/1.1\r\nHost: x\r\n\r\n",
                9 => b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
                _ => b"acknew_request",
            };
            client(world, input).send(words);
        }
        // Users call each other, and the camera.
        14 | 15 => {
            const NAMES: [&str; 4] = ["anna", "bert", "camera", "φως"];
            const KINDS: [Kind; 8] = [
                Kind::Login,
                Kind::Request,
                Kind::Accept,
                Kind::Reject,
                Kind::End,
                Kind::VideoData,
                Kind::Other(7),
                Kind::LoginOk,
            ];
            let who = input.byte();
            let name = |bits: u8| NAMES[usize::from(bits & 3)];
            let kind = KINDS[usize::from(op >> 4) & 7];
            let content = match kind {
                Kind::Login => "secret",
                Kind::VideoData => "/9j/2Q==",
                _ => "",
            };
            let mut record = Vec::new();
            call::write(&mut record, name(who), name(who >> 2), content, kind);
            client(world, input).send(&record);
        }
        _ => world.take_all(),
    }
}

fn client<'a>(world: &'a mut World, input: &mut Input<'_>) -> &'a mut camd_fuzz::Client {
    let count = world.clients.len();
    &mut world.clients[usize::from(input.byte()) % count]
}
