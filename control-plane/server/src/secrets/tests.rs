use super::*;
use std::fs;

/// A self-signed certificate and its key, in PEM.
fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["edge.example".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

struct Disk {
    dir: tempfile::TempDir,
    folder: Folder,
}

impl Disk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().to_owned());
        Self { dir, folder }
    }

    /// Writes a file, of a later time than any before: two writes within the clock's grain must be told apart.
    fn write(&self, file: &str, text: &str) {
        let path = self.dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }

    /// Names in force, and those with a problem.
    fn look(&mut self) -> (Vec<String>, Vec<String>) {
        let secrets = self.folder.look();
        let names = secrets.set.iter().map(|resource| resource.name.clone()).collect();
        (names, secrets.problems.into_keys().collect())
    }

    fn version(&mut self, name: &str) -> String {
        self.folder.look().set.get(name).unwrap().version.to_string()
    }
}

#[test]
fn a_pair_and_an_authority_are_secrets_of_their_own() {
    let (mut disk, (chain, key)) = (Disk::new(), pair());
    disk.write("edge/tls.crt", &chain);
    disk.write("edge/tls.key", &key);
    disk.write("edge/ca.crt", &format!("{chain}{}", pair().0));
    disk.write("..data/tls.crt", "not for us");
    disk.write("stray-file", "");
    assert_eq!(disk.look(), (vec!["edge".into(), "edge/ca".into()], vec![]));
    let reports = disk.folder.look().report();
    assert!(
        reports
            .iter()
            .all(|report| report.version.is_some() && report.problem.is_none()),
        "{reports:?}"
    );
    fs::remove_dir_all(disk.dir.path().join("edge")).unwrap();
    assert_eq!(disk.look(), (vec![], vec![]));
}

#[test]
fn a_rotation_that_is_only_half_done_keeps_the_last_good_pair() {
    let (mut disk, (chain, key)) = (Disk::new(), pair());
    disk.write("edge/tls.crt", &chain);
    disk.write("edge/tls.key", &key);
    let first = disk.version("edge");
    let (next_chain, next_key) = pair();
    disk.write("edge/tls.crt", &format!("{next_chain}\n"));
    assert_eq!(disk.version("edge"), first, "the new chain does not fit the old key");
    let problem = disk.folder.look().report().remove(0).problem.unwrap();
    assert!(problem.contains("not the key"), "{problem}");
    disk.write("edge/tls.key", &format!("{next_key}\n\n"));
    assert_ne!(disk.version("edge"), first);
    assert_eq!(disk.look().1, Vec::<String>::new());
    fs::remove_file(disk.dir.path().join("edge/tls.key")).unwrap();
    assert_eq!(disk.look(), (vec!["edge".into()], vec!["edge".into()]));
}

#[test]
fn what_can_never_be_a_secret_is_reported_and_harms_no_other() {
    let (mut disk, (chain, key)) = (Disk::new(), pair());
    disk.write("good/tls.crt", &chain);
    disk.write("good/tls.key", &key);
    disk.write("Bad Name/tls.crt", &chain);
    disk.write("empty/ca.crt", "nothing");
    disk.write(
        "garbage/ca.crt",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    disk.write("half/tls.key", &key);
    disk.write("large/ca.crt", &"x".repeat((1 << 20) + 1));
    let (names, problems) = disk.look();
    assert_eq!(names, ["good"]);
    assert_eq!(problems, ["Bad Name", "empty/ca", "garbage/ca", "half", "large/ca"]);
}

#[test]
fn a_folder_that_cannot_be_listed_takes_nothing_away() {
    let (mut disk, (chain, key)) = (Disk::new(), pair());
    disk.write("edge/tls.crt", &chain);
    disk.write("edge/tls.key", &key);
    disk.look();
    let away = disk.dir.path().with_extension("away");
    fs::rename(disk.dir.path(), &away).unwrap();
    assert_eq!(disk.look(), (vec!["edge".into()], vec!["*".into()]));
    fs::rename(&away, disk.dir.path()).unwrap();
    assert_eq!(disk.look(), (vec!["edge".into()], vec![]));
}
