use super::*;
use std::{
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A port with these four files, as the kernel words them.
fn write(root: &TempDir, port: &str, files: [&str; 4]) {
    let (device, number) = port.split_once('/').unwrap();
    let folder = root.path().join(device).join("ports").join(number);
    fs::create_dir_all(&folder).unwrap();
    for (file, line) in ["state", "phys_state", "rate", "link_layer"].iter().zip(files) {
        fs::write(folder.join(file), format!("{line}\n")).unwrap();
    }
}

const NDR: [&str; 4] = ["4: ACTIVE", "5: LinkUp", "400 Gb/sec (4X NDR)", "InfiniBand"];
const ETHERNET: [&str; 4] = ["4: ACTIVE", "5: LinkUp", "100 Gb/sec (4X EDR)", "Ethernet"];
const POLLING: [&str; 4] = ["1: DOWN", "2: Polling", "10 Gb/sec (4X SDR)", "InfiniBand"];

fn told(root: &TempDir) -> RdmaReading {
    read(root.path()).unwrap().unwrap()
}

#[test]
fn ports_are_told_in_the_words_of_ibstat_and_in_order() {
    let root = tempfile::tempdir().unwrap();
    write(&root, "mlx5_1/1", POLLING);
    write(&root, "mlx5_0/1", NDR);
    write(
        &root,
        "mlx5_2/1",
        [
            "2: INIT",
            "4: PortConfigurationTraining",
            "2.5 Gb/sec (1X SDR)",
            "InfiniBand",
        ],
    );
    let reading = told(&root);
    let port = |name: &str, state: &str, physical: &str, rate_gbps| RdmaPort {
        name: name.to_owned(),
        state: state.to_owned(),
        physical_state: physical.to_owned(),
        rate_gbps,
    };
    assert_eq!(
        reading.ports,
        [
            port("mlx5_0/1", "Active", "LinkUp", 400.0),
            port("mlx5_1/1", "Down", "Polling", 10.0),
            port("mlx5_2/1", "Initializing", "PortConfigurationTraining", 2.5),
        ]
    );
    assert_eq!((reading.transport.as_str(), reading.fallback), ("infiniband", false));
}

#[test]
fn the_transport_is_that_of_a_port_which_is_up() {
    let root = tempfile::tempdir().unwrap();
    write(&root, "mlx5_0/1", POLLING);
    write(&root, "mlx5_1/1", ETHERNET);
    let reading = told(&root);
    assert_eq!((reading.transport.as_str(), reading.fallback), ("roce", false));
}

#[test]
fn with_every_port_down_tcp_is_the_fallback() {
    let root = tempfile::tempdir().unwrap();
    write(&root, "mlx5_0/1", POLLING);
    let reading = told(&root);
    assert_eq!((reading.transport.as_str(), reading.fallback), ("tcp", true));
}

#[test]
fn a_machine_without_ports_has_no_reading() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(read(root.path()).unwrap(), None);
    assert_eq!(read(&root.path().join("absent")).unwrap(), None);
    // A device whose port has lost its files, as one that is being unplugged.
    fs::create_dir_all(root.path().join("mlx5_0/ports/1")).unwrap();
    assert_eq!(read(root.path()).unwrap(), None);
}

#[test]
fn a_rate_that_is_none_is_no_number() {
    assert_eq!(rate_gbps("400 Gb/sec (4X NDR)\n"), Some(400.0));
    for line in ["", "fast", "nan Gb/sec", "40 furlongs"] {
        assert_eq!(rate_gbps(line), None, "{line}");
    }
}

#[test]
fn a_port_that_goes_down_is_seen_while_a_worker_runs() {
    let root = tempfile::tempdir().unwrap();
    write(&root, "mlx5_0/1", NDR);
    let ports = Ports::watch(root.path());
    assert!(!ports.latest().unwrap().fallback);
    write(&root, "mlx5_0/1", POLLING);
    let begun = Instant::now();
    while !ports.latest().is_some_and(|reading| reading.fallback) {
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", ports.latest());
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_port_that_nobody_has_plugged_in_is_no_network_that_was_lost() {
    let root = tempfile::tempdir().unwrap();
    write(&root, "mlx5_0/1", POLLING);
    let ports = Ports::watch(root.path());
    assert_eq!(ports.latest(), None);
    write(&root, "mlx5_0/1", NDR);
    let begun = Instant::now();
    while ports.latest().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it is up and not told");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn without_ports_nothing_is_watched() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(Ports::watch(root.path()).latest(), None);
}
