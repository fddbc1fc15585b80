//! A mosquitto of the test's own, with the sample configuration and fresh certificates.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// Where Debian puts it; not on the path of ordinary users.
const PROGRAM: &str = "/usr/sbin/mosquitto";
/// How long anything may take on a busy machine before a test says that it does not come.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The user name and password of the plain listener.
pub const LOCAL_USER: &str = "dashboard";
pub const LOCAL_PASSWORD: &str = "only-for-tests";

/// A broker; it ends with this value.
pub struct Broker {
    dir: TempDir,
    child: Option<Child>,
    pub tls_port: u16,
    pub plain_port: u16,
}

impl Broker {
    /// A broker that keeps its messages over an orderly stop.
    pub fn start() -> Self {
        Self::start_with(|config| config)
    }

    /// A broker whose configuration was changed.
    pub fn start_with(change: impl Fn(String) -> String) -> Self {
        assert!(
            Path::new(PROGRAM).exists(),
            "{PROGRAM} is missing: sudo apt-get install mosquitto, or scripts/setup.sh"
        );
        let dir = tempfile::tempdir().unwrap();
        make_certificates(dir.path());
        make_passwords(dir.path());
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/mosquitto");
        fs::copy(sample.join("acl"), dir.path().join("acl")).unwrap();
        let config = fs::read_to_string(sample.join("mosquitto.conf")).unwrap();
        let (tls_port, plain_port) = (free_port(), free_port());
        let folder = dir.path().to_str().unwrap();
        let config = config
            .replace("/etc/mosquitto/latrod", folder)
            .replace("/var/lib/mosquitto/", &format!("{folder}/"))
            .replace("listener 8883", &format!("listener {tls_port} 127.0.0.1"))
            .replace("listener 1883", &format!("listener {plain_port}"));
        // Started as root it would become the user mosquitto, who may not read the test's folder.
        fs::write(dir.path().join("mosquitto.conf"), change(config) + "\nuser root\n").unwrap();
        let mut broker = Self { dir, child: None, tls_port, plain_port };
        broker.restart();
        broker
    }

    /// Starts it again after [`Broker::kill`] or [`Broker::stop`], and waits until it listens.
    pub fn restart(&mut self) {
        assert!(self.child.is_none());
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let child = Command::new(PROGRAM)
            .arg("-c")
            .arg(self.path("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
        let end = Instant::now() + PATIENCE;
        let listens = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
        while !(listens(self.tls_port) && listens(self.plain_port)) {
            let log = || fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(Instant::now() < end, "mosquitto does not listen:\n{}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends it in good order: it saves what it keeps.
    pub fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap();
    }

    /// A file of the broker's folder: `ca.pem`, `operator.pem`, `operator.key` …
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// An authority; certificates for the broker, two devices, an operator and an attendant; and another
/// authority's certificate for the first device.
fn make_certificates(dir: &Path) {
    let ours = authority("fleet authority");
    fs::write(dir.join("ca.pem"), ours.pem()).unwrap();
    certificate(dir, &ours, "broker", "broker", &["localhost", "127.0.0.1"]);
    certificate(dir, &ours, "d1", "press/d1", &[]);
    certificate(dir, &ours, "d2", "press/d2", &[]);
    certificate(dir, &ours, "operator", "operator", &[]);
    certificate(dir, &ours, "attendant", "attendant", &[]);
    let strange = authority("another authority");
    fs::write(dir.join("strange-ca.pem"), strange.pem()).unwrap();
    certificate(dir, &strange, "strange-d1", "press/d1", &[]);
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn certificate(
    dir: &Path,
    issuer: &CertifiedIssuer<'static, KeyPair>,
    file: &str,
    name: &str,
    hosts: &[&str],
) {
    let hosts: Vec<String> = hosts.iter().map(|&h| h.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    fs::write(dir.join(format!("{file}.pem")), certificate.pem()).unwrap();
    fs::write(dir.join(format!("{file}.key")), key.serialize_pem()).unwrap();
}

fn make_passwords(dir: &Path) {
    let file = dir.join("passwords");
    for (n, user) in [LOCAL_USER, "press/d1"].into_iter().enumerate() {
        let made = Command::new("/usr/bin/mosquitto_passwd")
            .args(if n == 0 { &["-b", "-c"][..] } else { &["-b"] })
            .arg(&file)
            .args([user, LOCAL_PASSWORD])
            .stderr(Stdio::null())
            .status();
        assert!(made.unwrap().success());
    }
}
