//! `/metrics` with Prometheus's own programs, and what `deploy/monitoring` makes of it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Camd, Folder, LISTENERS, PATIENCE, Stream, request};

fn top(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(top(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut process = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("promtool: {error}; see tests/setup"));
    let mut stdin = process.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    process.wait_with_output().expect("it ends")
}

fn succeeds(output: &Output) {
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (said(&output.stdout), said(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
}

/// With a sink and several kinds of listeners, so that every metric has a value.
fn camd(folder: &Folder) -> Camd {
    Camd::start(&format!(
        "[camera]\nsource = \"pattern\"\nname = \"the \\\"shed\\\"\"\nwidth = 160\nheight = 120\nlinger_s = 0.2\n{LISTENERS}\
         [[sink]]\nkind = \"memfd\"\nsocket = {:?}\n",
        folder.path().join("sink")
    ))
}

/// The names of all metrics of a page.
fn names(metrics: &str) -> BTreeSet<String> {
    let values = metrics.lines().filter(|line| !line.starts_with('#'));
    let name = |line: &str| line.split(['{', ' ']).next().unwrap_or_default().to_owned();
    values.map(name).collect()
}

/// The metrics of camd's that an expression names.
fn named(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let own = words.filter(|word| word.starts_with("camd_"));
    own.map(str::to_owned).collect()
}

/// The value of a sample, by its name and labels as they are written.
fn value(camd: &Camd, sample: &str) -> Option<f64> {
    let metrics = camd.get("/metrics");
    let line = metrics.text().lines().find_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        (name == sample).then(|| value.to_owned())
    });
    line.and_then(|value| value.parse().ok())
}

fn wait_for(camd: &Camd, sample: &str, right: impl Fn(f64) -> bool) {
    let started = Instant::now();
    while !value(camd, sample).is_some_and(&right) {
        assert!(
            started.elapsed() < PATIENCE,
            "{sample}: {:?}",
            value(camd, sample)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_camera_that_nobody_watches_is_idle_and_not_down() {
    let folder = Folder::new();
    let camd = camd(&folder);
    let states = ["idle", "starting", "live", "fault"];
    let state = |name: &str| format!("camd_camera_state{{state=\"{name}\"}}");
    wait_for(&camd, &state("idle"), |it| it == 1.0);
    let mut stream = Stream::open(camd.http(), "/stream");
    stream.next();
    wait_for(&camd, &state("live"), |it| it == 1.0);
    assert_eq!(value(&camd, "camd_camera_up"), Some(1.0));
    let sum: f64 = states
        .iter()
        .filter_map(|name| value(&camd, &state(name)))
        .sum();
    assert_eq!(sum, 1.0, "one of them");
    drop(stream);
    wait_for(&camd, &state("idle"), |it| it == 1.0);
    assert_eq!(value(&camd, &state("fault")), Some(0.0));

    let missing = Camd::start(&format!(
        "[camera]\nsource = \"v4l2\"\ndevice = \"/dev/video-missing\"\nlinger_s = 0\n{LISTENERS}"
    ));
    wait_for(&missing, &state("fault"), |it| it == 1.0);
    assert_eq!(value(&missing, &state("idle")), Some(0.0));
}

#[test]
fn what_is_sent_and_what_is_skipped_is_counted() {
    let folder = Folder::new();
    let camd = camd(&folder);
    let http = camd.http();
    let of = |name: &str| format!("{name}{{protocol=\"http\",listener=\"{http}\"}}");
    // Of 30 pictures a second it wants two.
    let mut stream = Stream::open(http, "/stream?max_fps=2");
    let mut bytes = 0;
    for _ in 0..3 {
        bytes += stream.next().jpeg.len();
    }
    let metrics = camd.get("/metrics").text().to_owned();
    let now = |name: &str| value(&camd, &of(name)).unwrap_or_else(|| panic!("{name}: {metrics}"));
    assert!(now("camd_frames_skipped_total") >= 20.0, "{metrics}");
    let sent = now("camd_bytes_sent_total");
    assert!(
        sent > bytes as f64,
        "{sent} with all framing, {bytes} of pictures"
    );
    // What went over connections that have ended stays in the sum.
    drop(stream);
    wait_for(&camd, &of("camd_clients"), |clients| clients == 1.0);
    assert!(now("camd_bytes_sent_total") > sent);
    assert!(now("camd_frames_skipped_total") >= 20.0);
    let build = format!(
        "camd_build_info{{version=\"{}\",arch=\"{}\",os=\"linux\"}}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH
    );
    assert_eq!(value(&camd, &build), Some(1.0));
}

#[test]
fn promtool_finds_no_fault_with_the_metrics() {
    let folder = Folder::new();
    let camd = camd(&folder);
    let metrics = camd.get("/metrics").text().to_owned();
    succeeds(&promtool(&["check", "metrics"], &metrics));
    // It would find some.
    let wrong = promtool(&["check", "metrics"], "# TYPE camd_x counter\ncamd_x 1\n");
    assert!(!wrong.status.success());
}

#[test]
fn the_alerts_are_right() {
    let path = |file: &str| top(file).to_str().expect("UTF-8").to_owned();
    succeeds(&promtool(
        &["check", "config", &path("deploy/monitoring/prometheus.yml")],
        "",
    ));
    succeeds(&promtool(
        &["check", "rules", &path("deploy/monitoring/alerts.yml")],
        "",
    ));
    succeeds(&promtool(
        &["test", "rules", &path("tests/data/alerts_test.yml")],
        "",
    ));
    let folder = Folder::new();
    let there = names(camd(&folder).get("/metrics").text());
    let alerts = read("deploy/monitoring/alerts.yml");
    let needed = named(&alerts);
    assert!(needed.len() > 6, "{needed:?}");
    let missing: Vec<_> = needed.difference(&there).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // Each of them has a case.
    let cases = read("tests/data/alerts_test.yml");
    let tried = |name: &&str| cases.contains(&format!("alertname: {name}"));
    let all: Vec<_> = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    let untried: Vec<_> = all.iter().filter(|name| !tried(name)).collect();
    assert!(untried.is_empty(), "{untried:?}");
}

#[test]
fn the_dashboard_is_right() {
    let dashboard: Value =
        serde_json::from_str(&read("deploy/monitoring/dashboard.json")).expect("JSON");
    let folder = Folder::new();
    let camd = camd(&folder);
    let there = names(camd.get("/metrics").text());
    let panels = dashboard["panels"].as_array().expect("panels");
    assert!(panels.len() > 10);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    let (mut ids, mut shown) = (BTreeSet::new(), BTreeSet::new());
    let mut places: Vec<[u64; 4]> = Vec::new();
    for panel in panels {
        let title = text(&panel["title"]);
        assert!(
            ids.insert(panel["id"].as_u64()),
            "{title}: its number is another's"
        );
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let [x, y, w, h] =
            ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a place"));
        assert!(x + w <= 24, "{title} is too wide");
        for [a, b, c, d] in &places {
            let apart = x >= a + c || *a >= x + w || y >= b + d || *b >= y + h;
            assert!(apart, "{title} covers another");
        }
        places.push([x, y, w, h]);
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            let expression = text(&target["expr"]);
            let named = named(&expression);
            for name in &named {
                assert!(there.contains(name), "{title}: camd has no {name}");
            }
            assert!(!named.is_empty(), "{title}: {expression}");
            shown.extend(named);
            assert!(
                expression.contains("instance=~\"$instance\""),
                "{title}: {expression}"
            );
            // As Grafana does it.
            let plain = expression
                .replace("$__rate_interval", "1m")
                .replace("$instance", ".*");
            assert!(!plain.contains('$'), "{title}: {expression}");
            rules += &format!(
                "  - record: panel\n    labels: {{number: '{}'}}\n    expr: {}\n",
                rules.len(),
                Value::from(plain)
            );
        }
    }
    let file = folder.file("rules.yml", &rules);
    succeeds(&promtool(
        &["check", "rules", file.to_str().expect("UTF-8")],
        "",
    ));
    for variable in dashboard["templating"]["list"]
        .as_array()
        .expect("variables")
    {
        if let Some(definition) = variable["definition"].as_str() {
            let named = named(definition);
            assert!(named.is_subset(&there), "{definition}");
        }
    }
    // Nothing of importance is left out.
    for name in [
        "camd_camera_state",
        "camd_bytes_sent_total",
        "camd_frames_skipped_total",
        "camd_build_info",
    ] {
        assert!(shown.contains(name), "{name}: {shown:?}");
    }
}

#[test]
fn prometheus_reads_what_there_is() {
    let folder = Folder::new();
    let camd = camd(&folder);
    let mut stream = Stream::open(camd.http(), "/stream");
    stream.next();
    folder.file("alerts.yml", read("deploy/monitoring/alerts.yml"));
    // The shipped file, with this camd as its one target.
    let shipped = read("deploy/monitoring/prometheus.yml");
    let config = shipped
        .replace("box:8080", &camd.http().to_string())
        .replace("15s", "200ms");
    assert_ne!(config, shipped);
    let config = folder.file("prometheus.yml", config);
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("its address");
    drop(free);
    let mut prometheus = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.path().join("data").display()
        ))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("prometheus: {error}; see tests/setup"));
    let query = |expression: &str| {
        let target = format!("/api/v1/query?query={expression}");
        std::net::TcpStream::connect(address).ok()?;
        let answer = request(
            address,
            &format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"),
        );
        let answer: Value = serde_json::from_slice(&answer.body).ok()?;
        let result = answer["data"]["result"].as_array()?.first()?.clone();
        Some(result["value"][1].as_str()?.to_owned())
    };
    let started = Instant::now();
    let mut last = None;
    while started.elapsed() < PATIENCE {
        last = query("camd_camera_state%7Bstate=%22live%22,job=%22camd%22%7D");
        if last.as_deref() == Some("1") {
            break;
        }
        stream.next();
        std::thread::sleep(Duration::from_millis(100));
    }
    let dropped = query("count(%7Bjob=%22camd%22%7D)");
    let _ = prometheus.kill();
    let _ = prometheus.wait();
    assert_eq!(last.as_deref(), Some("1"));
    let series: f64 = dropped
        .and_then(|count| count.parse().ok())
        .unwrap_or_default();
    assert!(series > 40.0, "{series} series");
}
