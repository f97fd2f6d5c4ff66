//! Makes Rust from the messages in `src/wire/proto`, with protox, so that no protoc is needed to build.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = "src/wire/proto";
    let protos = ["csi.proto", "pluginregistration.proto", "node.proto"];
    println!("cargo::rerun-if-changed={folder}");
    let descriptors = protox::compile(protos, [folder])?;
    tonic_prost_build::configure()
        .build_transport(false)
        // These carry values or tokens; `src/wire` gives them a Debug that shows neither.
        .skip_debug([
            "csi.v1.NodePublishVolumeRequest",
            "tidelock.node.v1.Attach",
            "tidelock.node.v1.Reauthenticate",
            "tidelock.node.v1.File",
        ])
        .compile_fds(descriptors)?;
    Ok(())
}
