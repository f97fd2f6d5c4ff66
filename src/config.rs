//! Every flag and environment variable of every role, typed. The only place that reads the environment.
//! Must not act on what it reads, and must not take secrets: those come from files or from the cluster.

mod values;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::api::aws;
use crate::node::args::{MounterArgs, NodeArgs};
use crate::telemetry::LogFilter;
use crate::{cli, rotator, telemetry};
use values::{account, duration, host_name, loopback, region, rotator_command};

/// AWS Secrets Manager for any Kubernetes cluster.
#[derive(Debug, Parser)]
#[command(name = "tidelock", version, propagate_version = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub log: LogArgs,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server: controllers, webhook, AWS API and the stream of the nodes
    Server(Box<ServerArgs>),
    /// Run the AWS API alone on this machine, without a cluster and not for production
    Dev(DevArgs),
    /// Run the node agent: kubelet's volumes, and the files in pods
    Node(Box<NodeArgs>),
    /// Run the privileged container beside the node agent
    #[command(hide = true)]
    Mounter(MounterArgs),
    /// Run a container of a rotation's pod
    // Not `rotate`: that is what a person types.
    #[command(subcommand, hide = true)]
    Rotator(rotator::Role),
    /// Print the CustomResourceDefinitions
    Crds(CrdsArgs),
    /// What the chart's hooks ask before Helm goes on
    #[command(subcommand, hide = true)]
    Hook(cli::hook::Hook),
    #[command(flatten)]
    Person(cli::Verb),
}

/// How this process tells what it does.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// What is logged: error, warn, info, debug, trace, or directives such as info,tidelock::keeper=debug
    #[arg(long, global = true, env = "TIDELOCK_LOG_LEVEL", default_value = "info", hide_env = true)]
    pub log_level: LogFilter,
    /// How log lines are written, on standard error
    #[arg(long, global = true, env = "TIDELOCK_LOG_FORMAT", default_value = "plain", hide_env = true)]
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Plain,
    Json,
}

impl From<LogFormat> for telemetry::LogFormat {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Plain => Self::Plain,
            LogFormat::Json => Self::Json,
        }
    }
}

/// The server's settings. The chart gives all of them but the timing.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// The namespace that the server runs in
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// The server's own pod
    #[arg(long, env = "POD_NAME")]
    pub pod_name: String,
    /// What the names of the installation's objects begin with
    #[arg(long, default_value = "tidelock")]
    pub name: String,
    /// What tokens must be made for: `<installation>/api`, `<installation>/node` and `<installation>/stream`
    #[arg(long)]
    pub installation: String,
    /// The region in every ARN; fixed by the first start
    #[arg(long, default_value = "local-1", value_parser = region)]
    pub region: String,
    /// The account in every ARN; fixed by the first start
    #[arg(long, default_value = "000000000000", value_parser = account)]
    pub account: String,
    /// The folder of the store, on a volume of its own
    #[arg(long, default_value = "/var/lib/tidelock")]
    pub store_dir: PathBuf,
    /// Where the API server reaches the webhook
    #[arg(long, default_value = "0.0.0.0:8443")]
    pub webhook_listen: SocketAddr,
    /// Where AWS's API is served
    #[arg(long, default_value = "0.0.0.0:8444")]
    pub api_listen: SocketAddr,
    /// Where node agents connect
    #[arg(long, default_value = "0.0.0.0:8445")]
    pub node_listen: SocketAddr,
    /// Where /livez, /readyz and /metrics are served, without TLS
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub health_listen: SocketAddr,
    /// The namespace of the Jobs of built-in rotators
    #[arg(long)]
    pub rotations_namespace: Option<String>,
    /// The rotators that RotationLambdaARN can name beside generate: {name: {generate: {}} or {job: {}}}, in YAML
    #[arg(long)]
    pub rotators_file: Option<PathBuf>,
    /// The OpenID Connect issuers whose tokens AssumeRoleWithWebIdentity takes beside the cluster's, in YAML: docs/outside.md
    #[arg(long)]
    pub oidc_issuers_file: Option<PathBuf>,
    /// The image of rotation Jobs. Default: the one of the server's own pod
    #[arg(long)]
    pub image: Option<String>,
    #[arg(long, default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: String,
    /// A Secret with the registry's login, in the namespaces of rotation Jobs; may be given several times
    #[arg(long = "image-pull-secret", value_name = "NAME")]
    pub image_pull_secrets: Vec<String>,
    /// The ServiceAccount of the node agents in the server's namespace
    #[arg(long)]
    pub node_service_account: Option<String>,
    /// The least time between two writes of the consumers in one status
    #[arg(long, default_value = "2s", value_parser = duration, hide = true)]
    pub status_every: Duration,
    /// A name or an address under which programs outside of the cluster reach the server; may be given several times
    #[arg(long = "api-name", value_name = "NAME", value_parser = host_name)]
    pub api_names: Vec<String>,
    /// How many requests a second one ServiceAccount may send to AWS's API; beyond that it gets ThrottlingException
    #[arg(long, default_value_t = aws::PER_CALLER)]
    pub api_requests_per_second: NonZeroU32,
    /// Ask the cluster's authorizer about each secret by itself, never about all of a namespace at once: for one that says
    /// yes to all objects and no to some of them, which RBAC never does
    #[arg(long)]
    pub review_each_name: bool,
    /// Networks of load balancers that begin each connection to AWS's API with the PROXY protocol: they tell who the caller
    /// is, for aws:SourceIp
    #[arg(long, value_delimiter = ',', value_name = "CIDR")]
    pub proxy_protocol_from: Vec<IpNet>,
    /// How often the rights of each mount are asked for again
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub recheck_every: Duration,
    /// The time between two complete looks at all ManagedSecrets
    #[arg(long, default_value = "60s", value_parser = duration, hide = true)]
    pub relist_every: Duration,
    /// Serve although the newest record of the store lies more than 5 minutes ahead of the clock
    #[arg(long)]
    pub allow_clock_behind_store: bool,
    /// The life of the server's certificates
    #[arg(long, default_value = "168h", value_parser = duration, hide = true)]
    pub leaf_lifetime: Duration,
}

/// What runs the steps of a rotation in `tidelock dev`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotatorCommand {
    pub name: String,
    pub command: String,
}

/// The settings of a server on one's own machine.
#[derive(Debug, Clone, Args)]
pub struct DevArgs {
    /// The folder of the secrets and of the key that opens them. Default: in memory, gone when the program ends
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Where the API is served, without TLS and so on this machine only; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8444", value_parser = loopback)]
    pub listen: SocketAddr,
    /// The region in every ARN; of a folder it is fixed by the first start
    #[arg(long, default_value = "local-1", value_parser = region)]
    pub region: String,
    /// The account in every ARN; of a folder it is fixed by the first start
    #[arg(long, default_value = "000000000000", value_parser = account)]
    pub account: String,
    /// A rotator that RotationLambdaARN can name, run by /bin/sh for each step; may be given several times
    #[arg(long = "rotator", value_name = "NAME=COMMAND", value_parser = rotator_command)]
    pub rotators: Vec<RotatorCommand>,
    /// Where temporary files go on a machine without a file system in memory
    #[arg(long, env = "TMPDIR", default_value = "/tmp", hide = true)]
    pub temporary: PathBuf,
}

impl ServerArgs {
    /// The Service of the server, and the stem of its Lease and ServiceAccount.
    pub fn server_name(&self) -> String {
        format!("{}-server", self.name)
    }

    /// The AWS API, as pods reach it.
    pub fn api_url(&self) -> String {
        format!("https://{}.{}.svc:{}", self.server_name(), self.namespace, self.api_listen.port())
    }

    pub fn root_key_name(&self) -> String {
        format!("{}-root-key", self.name)
    }

    pub fn authority_name(&self) -> String {
        format!("{}-ca", self.name)
    }

    pub fn rotations_namespace(&self) -> String {
        self.rotations_namespace.clone().unwrap_or_else(|| format!("{}-rotations", self.name))
    }

    pub fn node_service_account(&self) -> String {
        self.node_service_account.clone().unwrap_or_else(|| format!("{}-node", self.name))
    }

    /// The names that clients use for the server: its Service in every spelling that resolves, and what was given.
    pub fn host_names(&self) -> Vec<String> {
        let (service, namespace) = (self.server_name(), &self.namespace);
        let own = [
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
            format!("{service}.{namespace}"),
            service,
            "localhost".to_owned(),
        ];
        own.into_iter().chain(self.api_names.iter().cloned()).collect()
    }
}

/// What of the definitions is printed.
#[derive(Debug, Args)]
pub struct CrdsArgs {
    /// Print only the definition of this name, such as managedsecrets.tidelock.dev
    #[arg(conflicts_with_all = ["chart", "reference"])]
    pub name: Option<String>,
    /// Print the template of the chart
    #[arg(long, conflicts_with = "reference")]
    pub chart: bool,
    /// Print the page that explains every field
    #[arg(long)]
    pub reference: bool,
}

/// The command line. Called as `kubectl-tidelock`, the plugin of kubectl, it is the same program by another name.
pub fn command_line() -> Cli {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let called = words.first().and_then(|word| Path::new(word).file_name()).map(ToOwned::to_owned);
    if called.is_some_and(|name| name == "kubectl-tidelock") {
        words[0] = OsString::from("kubectl tidelock");
    }
    Cli::parse_from(words)
}

/// Where a person's settings lie, whether there are any or not.
#[expect(clippy::disallowed_methods, reason = "this is the place that reads the environment")]
pub fn settings_file() -> cli::SettingsFile {
    cli::SettingsFile(settings_path(std::env::var_os("XDG_CONFIG_HOME"), std::env::var_os("HOME")))
}

/// As the XDG base directory specification has it: a folder that is not absolute counts as not given.
fn settings_path(xdg: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |folder: Option<OsString>| folder.map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute(xdg).or_else(|| Some(absolute(home)?.join(".config")))?;
    Some(folder.join("tidelock/config.yaml"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[derive(Debug, Parser)]
    struct OnlyServer {
        #[command(flatten)]
        args: ServerArgs,
    }

    fn server(extra: &[&str]) -> Result<ServerArgs, String> {
        let given = ["server", "--namespace=tl", "--pod-name=p", "--installation=tidelock.tl", "--image=i"];
        let parsed = OnlyServer::try_parse_from(given.iter().chain(extra));
        parsed.map(|parsed| parsed.args).map_err(|error| error.to_string())
    }

    #[test]
    fn the_server_s_certificate_has_the_names_that_outsiders_use() {
        let names = |given: &[&str]| server(given).map(|args| args.host_names());
        let given = ["--api-name=secrets.example.org", "--api-name=192.0.2.7", "--api-name=2001:db8::7"];
        let (plain, more) = (names(&[]).unwrap(), names(&given).unwrap());
        assert_eq!(more[..plain.len()], plain);
        assert_eq!(more[plain.len()..], ["secrets.example.org", "192.0.2.7", "2001:db8::7"]);
        for wrong in ["*.example.org", "", "a b", "https://a", "a:8444", "-a.b", "a..b", "A.b"] {
            let refused = names(&[&format!("--api-name={wrong}")]).unwrap_err();
            assert!(refused.contains("--api-name") && refused.contains("write a DNS name"), "{refused}");
        }
    }

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_server_needs_little_and_names_its_objects_after_the_installation() {
        let args = server(&["--name=vault"]).unwrap();
        assert_eq!(args.server_name(), "vault-server");
        assert_eq!(args.rotations_namespace(), "vault-rotations");
        assert_eq!(args.node_service_account(), "vault-node");
        assert!(args.host_names().contains(&"vault-server.tl.svc".to_owned()));
    }

    #[test]
    fn a_person_s_settings_lie_where_xdg_says() {
        let path = |xdg: Option<&str>, home: Option<&str>| {
            settings_path(xdg.map(OsString::from), home.map(OsString::from))
        };
        let is = |text: &str| Some(PathBuf::from(text));
        assert_eq!(path(Some("/x"), Some("/home/a")), is("/x/tidelock/config.yaml"));
        assert_eq!(path(None, Some("/home/a")), is("/home/a/.config/tidelock/config.yaml"));
        assert_eq!(path(Some("x"), Some("/home/a")), is("/home/a/.config/tidelock/config.yaml"));
        assert_eq!(path(Some(""), None), None);
    }

    #[test]
    fn a_wrong_setting_is_refused_with_its_name_and_what_is_right() {
        for (flag, words) in [
            ("--region=Local_1", "such as local-1"),
            ("--region=local", "such as local-1"),
            ("--account=12", "write 12 digits"),
            ("--api-listen=8444", "--api-listen"),
            ("--status-every=2", "such as 2s"),
            ("--image-pull-policy=Often", "IfNotPresent"),
        ] {
            let error = server(&[flag]).unwrap_err();
            let name = flag.split('=').next().unwrap();
            assert!(error.contains(words) && error.contains(name), "{flag}: {error}");
        }
    }
}
