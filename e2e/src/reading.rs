//! A pod that reads a secret's file on and on and writes down each time that it was not whole.
//! Must not know what happens to the file.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::shop::{NAMESPACE, Shop};

const PATIENCE: Duration = Duration::from_secs(120);

/// Without a pause, and without a process per reading.
const SCRIPT: &str = r#"
trap 'exit 0' TERM
n=0
while :; do
  v=
  read -r v 2>/dev/null <"$0"
  case "$v" in
  '{'*'}') ;;
  *) echo "reading $n: '$v'" >>/tmp/wrong ;;
  esac
  n=$((n + 1))
  [ $((n % 500)) -ne 0 ] || echo "$n" >/tmp/count
done
"#;

/// Makes a pod that carries a JSON secret read `file`, with a fifth of a CPU.
pub fn reads(mut pod: Value, file: &str) -> Value {
    let container = &mut pod["spec"]["containers"][0];
    container["command"] = json!(["sh", "-c", SCRIPT, file]);
    container["resources"] = json!({"limits": {"cpu": "200m"}});
    pod
}

/// Fails when the pod has ever seen anything but a whole value since its container began. Says how many it saw.
pub async fn missed_nothing(shop: &Shop, pod: &str) -> Result<u64> {
    let output = shop.cluster.exec(NAMESPACE, pod, None, &["cat", "/tmp/wrong"]).await?;
    ensure!(
        !output.success && output.stderr.contains("No such file"),
        "{pod} saw {}{}",
        output.stdout,
        output.stderr
    );
    let counted =
        async || shop.file(pod, "/tmp/count").await.ok().and_then(|count| count.trim().parse().ok());
    shop.cluster.wait_for(&format!("{pod} to have read"), PATIENCE, counted).await
}
