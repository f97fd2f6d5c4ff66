// The second half of the story: of several secrets, of policies, of rotation, and of the end.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
)

const (
	noReplication = "Replication is not supported by this version of Tidelock."
	noAccounts    = "Replication across accounts is not supported by this version of Tidelock."
	replica       = "arn:aws:secretsmanager:local-1:111111111111:secret:shop/db-AbCdEf"
)

func (s *story) batchGetSecretValue(ctx context.Context) error {
	found, err := s.BatchGetSecretValue(ctx, &sm.BatchGetSecretValueInput{
		SecretIdList: []string{s.id, s.bytes, s.place + "/none"},
	})
	if err != nil {
		return err
	}
	values := map[string]types.SecretValueEntry{}
	for _, each := range found.SecretValues {
		values[*each.Name] = each
	}
	if !bytes.Equal(values[s.bytes].SecretBinary, s.every) {
		return errors.New("other bytes")
	}
	if len(found.Errors) != 1 || *found.Errors[0].ErrorCode != "ResourceNotFoundException" {
		return fmt.Errorf("errors: %v", found.Errors)
	}
	return equal(aws.ToString(values[s.id].SecretString), "third")
}

func (s *story) listSecrets(ctx context.Context) error {
	listing := sm.NewListSecretsPaginator(s.Client, &sm.ListSecretsInput{
		MaxResults: aws.Int32(1),
		Filters:    []types.Filter{{Key: types.FilterNameStringTypeName, Values: []string{s.place + "/"}}},
	})
	pages, found := 0, map[string]bool{}
	for listing.HasMorePages() {
		page, err := listing.NextPage(ctx)
		if err != nil {
			return err
		}
		pages++
		for _, each := range page.SecretList {
			found[*each.Name] = true
		}
	}
	if pages < 2 {
		return errors.New("one page")
	}
	return equal(found, map[string]bool{s.id: true, s.bytes: true})
}

func (s *story) putResourcePolicy(ctx context.Context) error {
	namespace, _, _ := strings.Cut(s.place, "/")
	s.policy = fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":{"AWS":`+
		`"arn:aws:iam::000000000000:role/%s/nobody"},"Action":"secretsmanager:GetSecretValue","Resource":"*"}]}`, namespace)
	if _, err := s.PutResourcePolicy(ctx, &sm.PutResourcePolicyInput{
		SecretId: &s.id, ResourcePolicy: &s.policy, BlockPublicPolicy: aws.Bool(true),
	}); err != nil {
		return err
	}
	_, err := s.PutResourcePolicy(ctx, &sm.PutResourcePolicyInput{
		SecretId: &s.id, ResourcePolicy: aws.String(`{"Statement": 1}`),
	})
	return refused[*types.MalformedPolicyDocumentException]("Statement", err)
}

func (s *story) getResourcePolicy(ctx context.Context) error {
	found, err := s.GetResourcePolicy(ctx, &sm.GetResourcePolicyInput{SecretId: &s.id})
	if err != nil {
		return err
	}
	return equal(aws.ToString(found.ResourcePolicy), s.policy)
}

func (s *story) listResourcePolicies(ctx context.Context) error {
	found, err := s.ListResourcePolicies(ctx, &sm.ListResourcePoliciesInput{SecretId: &s.id})
	if err != nil {
		return err
	}
	if len(found.ResourcePolicies) != 1 {
		return fmt.Errorf("%d policies", len(found.ResourcePolicies))
	}
	return equal(aws.ToString(found.ResourcePolicies[0].PolicyName), "default")
}

func (s *story) validateResourcePolicy(ctx context.Context) error {
	found, err := s.ValidateResourcePolicy(ctx, &sm.ValidateResourcePolicyInput{SecretId: &s.id, ResourcePolicy: &s.policy})
	if err != nil {
		return err
	}
	if !found.PolicyValidationPassed {
		return fmt.Errorf("%v", found.ValidationErrors)
	}
	public := `{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}`
	found, err = s.ValidateResourcePolicy(ctx, &sm.ValidateResourcePolicyInput{SecretId: &s.id, ResourcePolicy: &public})
	if err != nil {
		return err
	}
	return equal(*found.ValidationErrors[0].CheckName, "BROAD_ACCESS")
}

func (s *story) deleteResourcePolicy(ctx context.Context) error {
	if _, err := s.DeleteResourcePolicy(ctx, &sm.DeleteResourcePolicyInput{SecretId: &s.id}); err != nil {
		return err
	}
	found, err := s.GetResourcePolicy(ctx, &sm.GetResourcePolicyInput{SecretId: &s.id})
	if err != nil {
		return err
	}
	if found.ResourcePolicy != nil {
		return errors.New("the policy is still there")
	}
	return nil
}

func (s *story) rotateSecret(ctx context.Context) error {
	_, err := s.RotateSecret(ctx, &sm.RotateSecretInput{SecretId: &s.id, RotationLambdaARN: aws.String("nobody")})
	if err := coded("AccessDeniedException", "cannot invoke the specified Lambda function", err); err != nil {
		return err
	}
	rules := &types.RotationRulesType{AutomaticallyAfterDays: aws.Int64(30)}
	rotating, err := s.RotateSecret(ctx, &sm.RotateSecretInput{
		SecretId: &s.id, RotationLambdaARN: aws.String("generate"), RotationRules: rules,
	})
	if err != nil {
		return err
	}
	found, err := s.describe(ctx)
	if err != nil {
		return err
	}
	if err := equal(
		[]any{*found.RotationEnabled, *found.RotationLambdaARN, found.RotationRules, found.VersionIdsToStages[*rotating.VersionId]},
		[]any{true, "generate", rules, []string{"AWSPENDING"}},
	); err != nil {
		return err
	}
	_, err = s.RotateSecret(ctx, &sm.RotateSecretInput{SecretId: &s.id})
	return refused[*types.InvalidRequestException]("A previous rotation isn't complete.", err)
}

func (s *story) cancelRotateSecret(ctx context.Context) error {
	if _, err := s.CancelRotateSecret(ctx, &sm.CancelRotateSecretInput{SecretId: &s.id}); err != nil {
		return err
	}
	found, err := s.describe(ctx)
	if err != nil {
		return err
	}
	return equal(*found.RotationEnabled, false)
}

func (s *story) replicateSecretToRegions(ctx context.Context) error {
	_, err := s.ReplicateSecretToRegions(ctx, &sm.ReplicateSecretToRegionsInput{
		SecretId: &s.id, AddReplicaRegions: []types.ReplicaRegionType{{Region: aws.String("eu-west-1")}},
	})
	return refused[*types.InvalidRequestException](noReplication, err)
}

func (s *story) removeRegionsFromReplication(ctx context.Context) error {
	_, err := s.RemoveRegionsFromReplication(ctx, &sm.RemoveRegionsFromReplicationInput{
		SecretId: &s.id, RemoveReplicaRegions: []string{"eu-west-1"},
	})
	return refused[*types.InvalidRequestException](noReplication, err)
}

func (s *story) stopReplicationToReplica(ctx context.Context) error {
	_, err := s.StopReplicationToReplica(ctx, &sm.StopReplicationToReplicaInput{SecretId: &s.id})
	return refused[*types.InvalidRequestException](noReplication, err)
}

func (s *story) associateCrossAccountReplica(ctx context.Context) error {
	_, err := s.AssociateCrossAccountReplica(ctx, &sm.AssociateCrossAccountReplicaInput{
		SecretId: &s.id, CrossAccountReplicaARN: aws.String(replica),
		ReplicationRoleARN: aws.String("arn:aws:iam::000000000000:role/shop/replicator"),
	})
	return refused[*types.InvalidRequestException](noAccounts, err)
}

func (s *story) disassociateCrossAccountReplica(ctx context.Context) error {
	_, err := s.DisassociateCrossAccountReplica(ctx, &sm.DisassociateCrossAccountReplicaInput{
		SecretId: &s.id, CrossAccountReplicaARN: aws.String(replica),
	})
	return refused[*types.InvalidRequestException](noAccounts, err)
}

func (s *story) deleteSecret(ctx context.Context) error {
	if _, err := s.DeleteSecret(ctx, &sm.DeleteSecretInput{
		SecretId: &s.bytes, ForceDeleteWithoutRecovery: aws.Bool(true),
	}); err != nil {
		return err
	}
	_, err := s.DescribeSecret(ctx, &sm.DescribeSecretInput{SecretId: &s.bytes})
	if err := refused[*types.ResourceNotFoundException]("can't find the specified secret", err); err != nil {
		return err
	}
	deleted, err := s.DeleteSecret(ctx, &sm.DeleteSecretInput{SecretId: &s.id, RecoveryWindowInDays: aws.Int64(7)})
	if err != nil {
		return err
	}
	if days := time.Until(*deleted.DeletionDate).Hours() / 24; days < 6.9 || 7.1 < days {
		return fmt.Errorf("deleted in %f days", days)
	}
	_, err = s.current(ctx)
	return refused[*types.InvalidRequestException]("marked for deletion", err)
}

func (s *story) restoreSecret(ctx context.Context) error {
	if _, err := s.RestoreSecret(ctx, &sm.RestoreSecretInput{SecretId: &s.id}); err != nil {
		return err
	}
	found, err := s.current(ctx)
	if err != nil {
		return err
	}
	return equal(found, "third")
}
