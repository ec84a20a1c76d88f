use super::*;

fn lines(place: Place, level: Level, target: Option<&str>, text: &str) -> Vec<String> {
    let form = Form {
        place,
        colour: false,
    };
    let mut all = Vec::new();
    form.lines(level, target, format_args!("{text}"), |line| {
        all.push(str::from_utf8(line).unwrap().to_owned());
    });
    all
}

#[test]
fn each_place_gets_lines_of_its_own_kind() {
    let target = Some("camd::daemon");
    let [line] = &lines(Place::Other, Level::Warn, target, "hot")[..] else {
        panic!("one line");
    };
    let (time, rest) = line.split_at(21);
    assert!(time.starts_with("[20") && time.ends_with('Z'), "{line}");
    assert_eq!(rest, " WARN  camd::daemon] hot\n");
    assert_eq!(
        lines(Place::Other, Level::Error, None, "the end"),
        ["the end\n"]
    );
    for (level, number) in [
        (Level::Error, 3),
        (Level::Warn, 4),
        (Level::Info, 6),
        (Level::Debug, 7),
        (Level::Trace, 7),
    ] {
        let journal = lines(Place::Journal, level, target, "x");
        assert_eq!(journal, [format!("<{number}>x\n")]);
        let kernel = lines(Place::KernelLog, level, target, "x");
        assert_eq!(kernel, [format!("<{number}>camd: x\n")]);
    }
    // What the owner needs is a level of its own there.
    let notice = Some("camd::daemon::notice");
    let kernel = lines(Place::KernelLog, Level::Info, notice, "listening");
    assert_eq!(kernel, ["<5>camd: listening\n"]);
    let other = lines(Place::Other, Level::Info, notice, "listening");
    assert!(
        other[0].ends_with(" INFO  camd::daemon] listening\n"),
        "{other:?}"
    );
}

#[test]
fn one_message_is_one_line_whatever_is_in_it() {
    let text = "user \u{202e}nimda\n<0>kernel: panic\r\x1b[2J\u{2028}x";
    for place in [
        Place::Other,
        Place::Journal,
        Place::KernelLog,
        Place::Terminal,
    ] {
        let all = lines(place, Level::Info, Some("camd"), text);
        assert_eq!(all.len(), 1);
        let shown = "user \\u{202e}nimda\\n<0>kernel: panic\\r\\u{1b}[2J\\u{2028}x\n";
        assert!(all[0].ends_with(shown), "{:?}", all[0]);
    }
}

#[test]
fn the_kernels_log_gets_long_messages_in_pieces() {
    let text = "ä".repeat(1000);
    let all = lines(Place::KernelLog, Level::Error, None, &text);
    assert!(all.len() > 1);
    let mut joined = String::new();
    for line in &all {
        assert!(line.len() <= LOG_KERNEL_LINE + 1, "{}", line.len());
        let rest = line.strip_prefix("<3>camd: ").expect("each has its level");
        joined += rest.trim_end_matches('\n');
    }
    assert_eq!(joined, text);
    assert_eq!(lines(Place::Other, Level::Error, None, &text).len(), 1);
    assert_eq!(
        lines(Place::KernelLog, Level::Error, None, "camd: cannot listen"),
        ["<3>camd: cannot listen\n"]
    );
    assert_eq!(
        lines(Place::KernelLog, Level::Error, None, ""),
        ["<3>camd: \n"]
    );
}

#[test]
fn the_number_of_missing_lines_is_a_line() {
    let form = Form {
        place: Place::KernelLog,
        colour: false,
    };
    let told = |lost| {
        str::from_utf8(form.lost(lost).as_bytes())
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        told(7),
        "<4>camd: log: 7 lines were not written: standard error took no more\n"
    );
    assert!(told(1).contains(" 1 line was not written"));
}
