import java.lang.reflect.Method;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.services.secretsmanager.SecretsManagerClient;
import software.amazon.awssdk.services.secretsmanager.model.APIErrorType;
import software.amazon.awssdk.services.secretsmanager.model.DescribeSecretResponse;
import software.amazon.awssdk.services.secretsmanager.model.FilterNameStringType;
import software.amazon.awssdk.services.secretsmanager.model.InvalidRequestException;
import software.amazon.awssdk.services.secretsmanager.model.MalformedPolicyDocumentException;
import software.amazon.awssdk.services.secretsmanager.model.ResourceExistsException;
import software.amazon.awssdk.services.secretsmanager.model.ResourceNotFoundException;
import software.amazon.awssdk.services.secretsmanager.model.SecretValueEntry;
import software.amazon.awssdk.services.secretsmanager.model.SecretsManagerException;
import software.amazon.awssdk.services.secretsmanager.model.Tag;

/** AWS's SDK for Java: the story of ../python/story.py. Must take nothing but its environment. */
public final class Main {
    private static final String TEXT = "{\"username\": \"admin\", \"password\": \"a\\\"b\\\\c\u00e4\u20ac\ud83d\ude00\"}";
    private static final String NO_REPLICATION = "Replication is not supported by this version of Tidelock.";
    private static final String NOT_FOUND = "can't find the specified secret";

    private interface Step {
        void run() throws Exception;
    }

    private final SecretsManagerClient client = SecretsManagerClient.create();
    /** Under the namespace and name of our ServiceAccount. */
    private final String place = System.getenv("AWS_ROLE_ARN").split(":role/")[1];
    private final String id = place + "/db";
    private final String bytes = place + "/bytes";
    private final SdkBytes every;
    private final List<String> versions = new ArrayList<>();
    private final String policy = ("{'Version':'2012-10-17','Statement':[{'Effect':'Deny','Principal':{'AWS':"
            + "'arn:aws:iam::000000000000:role/" + place.split("/")[0] + "/nobody'},"
            + "'Action':'secretsmanager:GetSecretValue','Resource':'*'}]}").replace('\'', '"');

    private Main() {
        byte[] all = new byte[256];
        for (int i = 0; i < all.length; i++) {
            all[i] = (byte) i;
        }
        every = SdkBytes.fromByteArray(all);
    }

    public static void main(String[] arguments) {
        Map<String, Step> steps = new Main().steps();
        for (Method each : SecretsManagerClient.class.getMethods()) {
            // What a newer version brings has to be told as well.
            String operation = each.getName().substring(0, 1).toUpperCase() + each.getName().substring(1);
            if (each.getReturnType().getSimpleName().equals(operation + "Response") && !steps.containsKey(operation)) {
                System.out.println(operation + " failed: it is not in the story");
                System.exit(1);
            }
        }
        for (Map.Entry<String, Step> each : steps.entrySet()) {
            try {
                each.getValue().run();
            } catch (Exception | AssertionError error) {
                // Nothing after the first that fails.
                StringBuilder why = new StringBuilder();
                for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                    why.append(' ').append(cause);
                }
                System.out.println(each.getKey() + " failed" + why.toString().replace('\n', ' '));
                System.exit(1);
            }
            System.out.println(each.getKey() + " ok");
        }
    }

    private Map<String, Step> steps() {
        Map<String, Step> steps = new LinkedHashMap<>();
        steps.put("GetRandomPassword", this::getRandomPassword);
        steps.put("CreateSecret", this::createSecret);
        steps.put("GetSecretValue", this::getSecretValue);
        steps.put("DescribeSecret", this::describeSecret);
        steps.put("PutSecretValue", this::putSecretValue);
        steps.put("UpdateSecretVersionStage", this::updateSecretVersionStage);
        steps.put("ListSecretVersionIds", this::listSecretVersionIds);
        steps.put("UpdateSecret", this::updateSecret);
        steps.put("TagResource", this::tagResource);
        steps.put("UntagResource", this::untagResource);
        steps.put("BatchGetSecretValue", this::batchGetSecretValue);
        steps.put("ListSecrets", this::listSecrets);
        steps.put("PutResourcePolicy", this::putResourcePolicy);
        steps.put("GetResourcePolicy", this::getResourcePolicy);
        steps.put("ValidateResourcePolicy", this::validateResourcePolicy);
        steps.put("DeleteResourcePolicy", this::deleteResourcePolicy);
        steps.put("RotateSecret", this::rotateSecret);
        steps.put("CancelRotateSecret", this::cancelRotateSecret);
        steps.put("ReplicateSecretToRegions", this::replicateSecretToRegions);
        steps.put("RemoveRegionsFromReplication", this::removeRegionsFromReplication);
        steps.put("StopReplicationToReplica", this::stopReplicationToReplica);
        steps.put("DeleteSecret", this::deleteSecret);
        steps.put("RestoreSecret", this::restoreSecret);
        return steps;
    }

    private static void expect(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    private static void equal(Object found, Object wanted) {
        expect(Objects.equals(found, wanted), found + " is not " + wanted);
    }

    /** The act must end with an error of this class. */
    private static void refused(Class<? extends SecretsManagerException> kind, String text, Callable<?> act)
            throws Exception {
        try {
            throw new AssertionError("no error, but " + act.call());
        } catch (SecretsManagerException error) {
            boolean right = kind.equals(error.getClass()) && error.getMessage().contains(text);
            expect(right, error + " is no " + kind.getSimpleName() + ": " + text);
        }
    }

    private String at(String stage) {
        return client.getSecretValue(get -> get.secretId(id).versionStage(stage)).secretString();
    }

    private void values(String current, String previous) {
        equal(List.of(at("AWSCURRENT"), at("AWSPREVIOUS")), List.of(current, previous));
    }

    private DescribeSecretResponse describe() {
        return client.describeSecret(describe -> describe.secretId(id));
    }

    private Map<String, String> tags() {
        Map<String, String> tags = new TreeMap<>();
        describe().tags().forEach(tag -> tags.put(tag.key(), tag.value()));
        return tags;
    }

    private void getRandomPassword() {
        String drawn = client.getRandomPassword(draw -> draw.passwordLength(24L).excludePunctuation(true)).randomPassword();
        expect(drawn.matches("[A-Za-z0-9]{24}"), "not 24 letters and digits");
    }

    private void createSecret() throws Exception {
        Tag tag = Tag.builder().key("team").value("shop").build();
        versions.add(client.createSecret(
                create -> create.name(id).secretString(TEXT).description("of orders").tags(tag)).versionId());
        client.createSecret(create -> create.name(bytes).secretBinary(every));
        refused(ResourceExistsException.class, id,
                () -> client.createSecret(create -> create.name(id).secretString("x")));
    }

    private void getSecretValue() throws Exception {
        var found = client.getSecretValue(get -> get.secretId(id));
        equal(found.secretString(), TEXT);
        equal(found.versionStages(), List.of("AWSCURRENT"));
        equal(client.getSecretValue(get -> get.secretId(found.arn())).versionId(), versions.get(0));
        byte[] binary = client.getSecretValue(get -> get.secretId(bytes)).secretBinary().asByteArray();
        expect(Arrays.equals(binary, every.asByteArray()), "other bytes");
        refused(ResourceNotFoundException.class, NOT_FOUND,
                () -> client.getSecretValue(get -> get.secretId(place + "/none")));
    }

    private void describeSecret() {
        DescribeSecretResponse found = describe();
        equal(found.description(), "of orders");
        equal(found.versionIdsToStages(), Map.of(versions.get(0), List.of("AWSCURRENT")));
        expect(Duration.between(found.createdDate(), Instant.now()).abs().toHours() == 0, "not created now");
        equal(tags(), Map.of("team", "shop"));
    }

    private void putSecretValue() {
        versions.add(client.putSecretValue(put -> put.secretId(id).secretString("second")).versionId());
        values("second", TEXT);
        equal(client.getSecretValue(get -> get.secretId(id).versionId(versions.get(0))).secretString(), TEXT);
    }

    private void updateSecretVersionStage() {
        client.updateSecretVersionStage(move -> move.secretId(id).versionStage("AWSCURRENT")
                .moveToVersionId(versions.get(0)).removeFromVersionId(versions.get(1)));
        values(TEXT, "second");
    }

    private void listSecretVersionIds() {
        Set<String> found = new TreeSet<>();
        int pages = 0;
        for (var page : client.listSecretVersionIdsPaginator(list -> list.secretId(id).maxResults(1))) {
            pages++;
            page.versions().forEach(version -> found.add(version.versionId()));
        }
        expect(pages > 1, "one page");
        equal(found, new TreeSet<>(versions));
    }

    private void updateSecret() {
        client.updateSecret(update -> update.secretId(id).secretString("third").description("of all orders"));
        values("third", TEXT);
        equal(describe().description(), "of all orders");
    }

    private void tagResource() {
        Tag tag = Tag.builder().key("tier").value("gold").build();
        client.tagResource(add -> add.secretId(id).tags(tag));
        equal(tags(), Map.of("team", "shop", "tier", "gold"));
    }

    private void untagResource() {
        client.untagResource(remove -> remove.secretId(id).tagKeys("team"));
        equal(tags(), Map.of("tier", "gold"));
    }

    private void batchGetSecretValue() {
        var found = client.batchGetSecretValue(batch -> batch.secretIdList(id, bytes, place + "/none"));
        Map<String, SecretValueEntry> byName = new TreeMap<>();
        found.secretValues().forEach(each -> byName.put(each.name(), each));
        equal(byName.get(id).secretString(), "third");
        equal(byName.get(bytes).secretBinary(), every);
        equal(found.errors().stream().map(APIErrorType::errorCode).toList(), List.of("ResourceNotFoundException"));
    }

    private void listSecrets() {
        Set<String> found = new TreeSet<>();
        int pages = 0;
        for (var page : client.listSecretsPaginator(list -> list.maxResults(1)
                .filters(filter -> filter.key(FilterNameStringType.NAME).values(place + "/")))) {
            pages++;
            page.secretList().forEach(each -> found.add(each.name()));
        }
        expect(pages > 1, "one page");
        equal(found, Set.of(id, bytes));
    }

    private void putResourcePolicy() throws Exception {
        client.putResourcePolicy(put -> put.secretId(id).resourcePolicy(policy).blockPublicPolicy(true));
        refused(MalformedPolicyDocumentException.class, "Statement",
                () -> client.putResourcePolicy(put -> put.secretId(id).resourcePolicy("{\"Statement\": 1}")));
    }

    private void getResourcePolicy() {
        equal(client.getResourcePolicy(get -> get.secretId(id)).resourcePolicy(), policy);
    }

    private void validateResourcePolicy() {
        var found = client.validateResourcePolicy(validate -> validate.secretId(id).resourcePolicy(policy));
        equal(found.policyValidationPassed(), true);
        String open = "{'Statement':{'Effect':'Allow','Principal':'*','Action':'*','Resource':'*'}}".replace('\'', '"');
        found = client.validateResourcePolicy(validate -> validate.secretId(id).resourcePolicy(open));
        equal(found.validationErrors().get(0).checkName(), "BROAD_ACCESS");
    }

    private void deleteResourcePolicy() {
        client.deleteResourcePolicy(delete -> delete.secretId(id));
        equal(client.getResourcePolicy(get -> get.secretId(id)).resourcePolicy(), null);
    }

    private void rotateSecret() throws Exception {
        // The model has no class for it.
        refused(SecretsManagerException.class, "cannot invoke the specified Lambda function",
                () -> client.rotateSecret(rotate -> rotate.secretId(id).rotationLambdaARN("nobody")));
        var rotating = client.rotateSecret(rotate -> rotate.secretId(id).rotationLambdaARN("generate")
                .rotationRules(rules -> rules.automaticallyAfterDays(30L)));
        DescribeSecretResponse found = describe();
        equal(found.rotationEnabled(), true);
        equal(found.rotationLambdaARN(), "generate");
        equal(found.rotationRules().automaticallyAfterDays(), 30L);
        equal(found.versionIdsToStages().get(rotating.versionId()), List.of("AWSPENDING"));
        refused(InvalidRequestException.class, "A previous rotation isn't complete.",
                () -> client.rotateSecret(rotate -> rotate.secretId(id)));
    }

    private void cancelRotateSecret() {
        client.cancelRotateSecret(cancel -> cancel.secretId(id));
        equal(describe().rotationEnabled(), false);
    }

    private void replicateSecretToRegions() throws Exception {
        refused(InvalidRequestException.class, NO_REPLICATION, () -> client.replicateSecretToRegions(
                replicate -> replicate.secretId(id).addReplicaRegions(region -> region.region("eu-west-1"))));
    }

    private void removeRegionsFromReplication() throws Exception {
        refused(InvalidRequestException.class, NO_REPLICATION, () -> client.removeRegionsFromReplication(
                remove -> remove.secretId(id).removeReplicaRegions("eu-west-1")));
    }

    private void stopReplicationToReplica() throws Exception {
        refused(InvalidRequestException.class, NO_REPLICATION,
                () -> client.stopReplicationToReplica(stop -> stop.secretId(id)));
    }

    private void deleteSecret() throws Exception {
        client.deleteSecret(delete -> delete.secretId(bytes).forceDeleteWithoutRecovery(true));
        refused(ResourceNotFoundException.class, NOT_FOUND,
                () -> client.describeSecret(describe -> describe.secretId(bytes)));
        Instant date = client.deleteSecret(delete -> delete.secretId(id).recoveryWindowInDays(7L)).deletionDate();
        long hours = Duration.between(Instant.now(), date).toHours();
        expect(7 * 24 - 2 < hours && hours < 7 * 24 + 2, "deleted in " + hours + " hours");
        refused(InvalidRequestException.class, "marked for deletion", () -> at("AWSCURRENT"));
    }

    private void restoreSecret() {
        client.restoreSecret(restore -> restore.secretId(id));
        equal(at("AWSCURRENT"), "third");
    }
}
