//! `tidelock dev`: the AWS API in one process on one's own machine, without a cluster. What it keeps lies in a folder
//! that is named, or in memory's file system until it ends. Must not listen to other machines, nor be run in production.

mod attempt;
mod rotations;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::doors::API_BODY;
use super::opening::{Hindrance, Opening, StoreSettings};
use super::surroundings::{Place, Surroundings};
use super::tasks::Tasks;
use crate::access::{NamePolicy, Operation, Principal, RbacAnswer};
use crate::api::Authenticate;
use crate::api::aws::{self, AwsApi, StillThere, Throttle};
use crate::clock::SystemClock;
use crate::cluster::{PodRefused, TokenRefused};
use crate::config::{DevArgs, RotatorCommand};
use crate::keeper::{self, AccessKey, Keeper, Rights};
use crate::kms::{KeyFile, KmsError};
use crate::rotation::GENERATE;
use crate::seal::{self, SystemRandom};
use crate::secret::{Name, Randomness as _};
use crate::serve::{Door, Limits, Listener, Protocol, bounded, run as serve};
use crate::store::LossAccepted;
use crate::wire::aws::Token;
use attempt::Rotator;
use rotations::Rotations;

/// Beside the store: whoever has the folder has both.
const ROOT_KEY: &str = "root-key";
/// The kernel's file system in memory.
const IN_MEMORY: &str = "/dev/shm";
const PURGE_EVERY: Duration = Duration::from_secs(60);

/// Serves until told to stop. What to export is written to `out` when the first request can come.
pub async fn run(args: DevArgs, stop: CancellationToken, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let temporary = if args.data.is_some() { None } else { Some(memory(&args)?) };
    let (folder, custody) = match (&args.data, &temporary) {
        (Some(folder), _) => (folder.clone(), Custody::File(folder.join(ROOT_KEY))),
        (None, Some(temporary)) => (temporary.path().to_owned(), Custody::Memory(Mutex::default())),
        (None, None) => bail!("there is no folder"),
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    let keeper = Arc::new(open(&args, folder, custody).await?);
    let own = Own::new();

    let listener = TcpListener::bind(args.listen).await;
    let listener = listener.with_context(|| format!("{} cannot be listened on", args.listen))?;
    let address = listener.local_addr()?;
    let mut tasks = Tasks::new(CancellationToken::new());
    let routes = bounded(warp::service(aws::routes(api(&keeper, &own))), API_BODY).worded(aws::unread);
    tasks.spawn("api", serve(door(listener), routes, tasks.stop()));
    tasks.spawn("refusals", Arc::clone(&keeper).keep_refusals(tasks.stop()));
    let rotator = Rotator {
        endpoint: format!("http://{address}"),
        region: args.region.clone(),
        key: keeper.local_key(),
        token: own.token(),
        commands: args.rotators.iter().map(|given| (given.name.clone(), given.command.clone())).collect(),
        temporary: args.temporary.clone(),
    };
    let rotations = Rotations::new(Arc::clone(&keeper), SystemClock::shared(), rotator);
    tasks.spawn("rotations", rotations.run(tasks.stop()));
    tasks.spawn("purge", purge(Arc::clone(&keeper), tasks.stop()));
    out.write_all(lines(&args, address, &keeper.local_key()).as_bytes())?;
    out.flush()?;
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        ended = tasks.ended() => Err(anyhow::anyhow!(ended)),
    };
    tasks.drain().await;
    ended
}

fn memory(args: &DevArgs) -> anyhow::Result<tempfile::TempDir> {
    let place = Some(Path::new(IN_MEMORY)).filter(|place| place.is_dir()).unwrap_or(&args.temporary);
    tempfile::Builder::new()
        .prefix("tidelock-dev-")
        .tempdir_in(place)
        .with_context(|| format!("no folder can be made in {}", place.display()))
}

/// What somebody types into the shell of his program; the first line is a comment to a shell.
fn lines(args: &DevArgs, address: SocketAddr, key: &AccessKey) -> String {
    let kept = args.data.as_ref().map_or_else(
        || "in memory, gone when it ends".to_owned(),
        |folder| format!("in {}, with the key that opens them", folder.display()),
    );
    let (region, id, secret) = (&args.region, &key.id, key.secret.as_str());
    format!(
        "# Tidelock listens. Secrets are kept {kept}. Not for production. In the shell of your program:\n\
         export AWS_ENDPOINT_URL_SECRETS_MANAGER=http://{address}\n\
         export AWS_ENDPOINT_URL_STS=http://{address}\n\
         export AWS_REGION={region}\n\
         export AWS_DEFAULT_REGION={region}\n\
         export AWS_ACCESS_KEY_ID={id}\n\
         export AWS_SECRET_ACCESS_KEY={secret}\n\
         unset AWS_SESSION_TOKEN AWS_PROFILE AWS_ENDPOINT_URL\n"
    )
}

async fn open(args: &DevArgs, folder: PathBuf, custody: Custody) -> anyhow::Result<Keeper> {
    let clock = SystemClock::shared();
    let settings = StoreSettings {
        folder,
        region: args.region.clone(),
        account: args.account.clone(),
        allow_clock_behind_store: false,
    };
    let opening = Opening { around: &Laptop { custody }, settings, now: clock.now(), noted: None };
    let (opened, _) = opening.run().await?;
    let ports =
        keeper::Ports { store: opened.store, root_key: opened.root_key, clock, rights: Arc::new(NoCluster) };
    let settings = keeper::Settings {
        region: args.region.clone(),
        account: args.account.clone(),
        names: NamePolicy::Free,
        rotators: named(&args.rotators),
    };
    Ok(Keeper::start(ports, settings, opened.epoch).await?)
}

/// The built-in rotator, and those that were given.
fn named(given: &[RotatorCommand]) -> BTreeSet<String> {
    given.iter().map(|given| given.name.clone()).chain([GENERATE.to_owned()]).collect()
}

fn api(keeper: &Arc<Keeper>, own: &Arc<Own>) -> Arc<AwsApi> {
    Arc::new(AwsApi {
        keeper: Arc::clone(keeper),
        issuers: Arc::default(),
        tokens: Arc::clone(own) as Arc<dyn Authenticate>,
        still_there: Arc::new(NoCluster),
        local: Some(keeper.local_key().into()),
        clock: SystemClock::shared(),
        throttle: Throttle::per_second(aws::PER_CALLER),
        audience: "tidelock dev".to_owned(),
        draw_password: |rules| rules.draw(&mut SystemRandom),
    })
}

fn door(listener: TcpListener) -> Door {
    let (protocol, limits) = (Protocol::Http, Limits::http());
    Door { name: "api", listener: Listener::Tcp(listener), tls: None, protocol, limits }
}

/// Ends what was scheduled for deletion, as the server's sweep does in a cluster.
async fn purge(keeper: Arc<Keeper>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(PURGE_EVERY)).await.is_some() {
        if let Err(error) = keeper.purge_due().await {
            tracing::warn!(reason = error.reason(), %error, "secrets whose time is over could not be removed");
        }
    }
}

/// Where the root key is, without a cluster to keep it.
enum Custody {
    File(PathBuf),
    /// Gone with the process, and with it all that it opened.
    Memory(Mutex<Option<Zeroizing<String>>>),
}

struct Laptop {
    custody: Custody,
}

#[async_trait]
impl Surroundings for Laptop {
    async fn root_key(&self) -> Result<Result<Option<KeyFile>, KmsError>, Hindrance> {
        Ok(match &self.custody {
            Custody::File(path) => only_ours(path).and_then(|()| KeyFile::read(path)),
            Custody::Memory(line) => {
                let line = line.lock().unwrap_or_else(PoisonError::into_inner);
                line.as_ref().map(|line| KeyFile::parse("memory", line)).transpose()
            }
        })
    }

    async fn keep_root_key(&self, line: Zeroizing<String>) -> Result<(), Hindrance> {
        match &self.custody {
            Custody::File(path) => {
                let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
                let kept = made.and_then(|mut file| {
                    file.write_all(line.as_bytes())?;
                    file.sync_all()
                });
                kept.map_err(|error| {
                    Hindrance::Key(KmsError::Unavailable(format!("{}: {error}", path.display())))
                })
            }
            Custody::Memory(kept) => {
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
                Ok(())
            }
        }
    }

    async fn place(&self) -> Result<Place, Hindrance> {
        Ok(Place { cluster_id: String::new(), crd_uid: String::new() })
    }

    async fn some_resource_has_arn(&self) -> Result<bool, Hindrance> {
        Ok(false)
    }

    async fn loss(&self) -> Result<Option<LossAccepted>, Hindrance> {
        Ok(None)
    }

    async fn forget_loss(&self) -> Result<(), Hindrance> {
        Ok(())
    }
}

fn only_ours(path: &Path) -> Result<(), KmsError> {
    let open_to_others = std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0);
    if open_to_others {
        let wrong = "others may read it: take that away with chmod 600";
        return Err(KmsError::BadKeyFile { path: path.display().to_string(), wrong });
    }
    Ok(())
}

/// Nobody but the holder of the one key.
struct NoCluster;

#[async_trait]
impl Rights for NoCluster {
    async fn ask(&self, _: &Principal, _: Operation, _: &Name) -> RbacAnswer {
        RbacAnswer::Denied
    }
}

/// The token by which this process calls itself: the built-in rotator asks through the API like any other. It is known
/// to nobody else, and gone with the process.
struct Own(Zeroizing<String>);

impl Own {
    fn new() -> Arc<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom.fill(&mut *bytes);
        Arc::new(Self(Zeroizing::new(seal::hex(&*bytes))))
    }

    fn token(&self) -> Token {
        Token::new(self.0.to_string())
    }
}

#[async_trait]
impl Authenticate for Own {
    async fn authenticate(&self, token: &str, audience: &str) -> Result<Principal, TokenRefused> {
        if seal::same(token.as_bytes(), self.0.as_bytes()) {
            return Ok(Principal::Local);
        }
        Err(TokenRefused::NotAuthenticated { audience: audience.to_owned() })
    }
}

#[async_trait]
impl StillThere for NoCluster {
    async fn check(&self, _: &Principal) -> Result<(), PodRefused> {
        Ok(())
    }
}
