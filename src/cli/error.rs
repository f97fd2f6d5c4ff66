//! Why a command could not be done, in words for the person who typed it. Must not carry values.

#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error("the kubeconfig cannot be used: {0}")]
    Kubeconfig(String),
    #[error("the settings in {} are refused: {what}", path.display())]
    Settings { path: std::path::PathBuf, what: String },
    #[error("no ManagedSecret {name} in namespace {namespace}: `tidelock list -A` shows all")]
    NotFound { namespace: String, name: String },
    #[error("the cluster does not know Tidelock's resources: install the chart, or `kubectl apply -f crds/`")]
    NotInstalled,
    #[error("{0}")]
    Kube(String),
    #[error("the answer cannot be written: {0}")]
    Output(String),
    #[error("{0}")]
    Refused(String),
    #[error(
        "not done after {seconds} s; it goes on in the cluster: `tidelock describe {name}` shows how far it is"
    )]
    TimedOut { seconds: u64, name: String },
    #[error("{0} findings need mending: docs/troubleshooting.md explains each reason")]
    ToMend(usize),
    #[error("nothing needs mending as far as could be looked; {0} findings are unknown")]
    NotAllSeen(usize),
}

impl CliError {
    /// With what the process ends. What the doctor found is told apart from a doctor that could not look.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::ToMend(_) => 3,
            Self::NotAllSeen(_) => 4,
            _ => 1,
        }
    }
}

impl From<kube::Error> for CliError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 404 && status.message.contains("page not found") => {
                Self::NotInstalled
            }
            kube::Error::Api(status) => Self::Kube(status.message.clone()),
            other => Self::Kube(format!("the cluster cannot be reached: {other}")),
        }
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error.to_string())
    }
}
