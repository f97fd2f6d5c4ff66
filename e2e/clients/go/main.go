// AWS's SDK for Go: the story of ../python/story.py. Must take nothing but its environment.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
)

const text = "{\"username\": \"admin\", \"password\": \"a\\\"b\\\\c\u00e4\u20ac\U0001f600\"}"

type story struct {
	*sm.Client
	place, id, bytes string
	every            []byte
	versions         []string
	policy           string
}

type step struct {
	operation string
	run       func(context.Context) error
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	configured, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		fmt.Println("configuration failed", err)
		os.Exit(1)
	}
	// Under the namespace and name of our ServiceAccount.
	_, place, _ := strings.Cut(os.Getenv("AWS_ROLE_ARN"), ":role/")
	s := &story{Client: sm.NewFromConfig(configured), place: place, id: place + "/db", bytes: place + "/bytes"}
	for b := range 256 {
		s.every = append(s.every, byte(b))
	}
	for _, operation := range s.untold() {
		fmt.Println(operation, "failed: it is not in the story")
		os.Exit(1)
	}
	for _, each := range s.steps() {
		// Nothing after the first that fails.
		if err := each.run(ctx); err != nil {
			fmt.Println(each.operation, "failed", strings.ReplaceAll(err.Error(), "\n", " "))
			os.Exit(1)
		}
		fmt.Println(each.operation, "ok")
	}
}

// Operations of the client that no step is for: what a newer version brings has to be told as well.
func (s *story) untold() []string {
	told := map[string]bool{"Options": true}
	for _, each := range s.steps() {
		told[each.operation] = true
	}
	var untold []string
	for method := range reflect.TypeFor[*sm.Client]().Methods() {
		if !told[method.Name] {
			untold = append(untold, method.Name)
		}
	}
	return untold
}

func (s *story) steps() []step {
	return []step{
		{"GetRandomPassword", s.getRandomPassword},
		{"CreateSecret", s.createSecret},
		{"GetSecretValue", s.getSecretValue},
		{"DescribeSecret", s.describeSecret},
		{"PutSecretValue", s.putSecretValue},
		{"UpdateSecretVersionStage", s.updateSecretVersionStage},
		{"ListSecretVersionIds", s.listSecretVersionIds},
		{"UpdateSecret", s.updateSecret},
		{"TagResource", s.tagResource},
		{"UntagResource", s.untagResource},
		{"BatchGetSecretValue", s.batchGetSecretValue},
		{"ListSecrets", s.listSecrets},
		{"PutResourcePolicy", s.putResourcePolicy},
		{"GetResourcePolicy", s.getResourcePolicy},
		{"ListResourcePolicies", s.listResourcePolicies},
		{"ValidateResourcePolicy", s.validateResourcePolicy},
		{"DeleteResourcePolicy", s.deleteResourcePolicy},
		{"RotateSecret", s.rotateSecret},
		{"CancelRotateSecret", s.cancelRotateSecret},
		{"ReplicateSecretToRegions", s.replicateSecretToRegions},
		{"RemoveRegionsFromReplication", s.removeRegionsFromReplication},
		{"StopReplicationToReplica", s.stopReplicationToReplica},
		{"AssociateCrossAccountReplica", s.associateCrossAccountReplica},
		{"DisassociateCrossAccountReplica", s.disassociateCrossAccountReplica},
		{"DeleteSecret", s.deleteSecret},
		{"RestoreSecret", s.restoreSecret},
	}
}

func equal(found, wanted any) error {
	if reflect.DeepEqual(found, wanted) {
		return nil
	}
	return fmt.Errorf("%v is not %v", found, wanted)
}

// The call must end with an error that the client makes this type of.
func refused[E error](text string, err error) error {
	var told E
	if errors.As(err, &told) && strings.Contains(told.Error(), text) {
		return nil
	}
	return fmt.Errorf("%v is no %T: %s", err, told, text)
}

// What the model has no type for is told by its code.
func coded(code, text string, err error) error {
	var told interface {
		ErrorCode() string
		ErrorMessage() string
	}
	if errors.As(err, &told) && told.ErrorCode() == code && strings.Contains(told.ErrorMessage(), text) {
		return nil
	}
	return fmt.Errorf("%v is no %s: %s", err, code, text)
}

func (s *story) current(ctx context.Context) (string, error) {
	return s.at(ctx, &sm.GetSecretValueInput{})
}

func (s *story) at(ctx context.Context, which *sm.GetSecretValueInput) (string, error) {
	which.SecretId = &s.id
	found, err := s.Client.GetSecretValue(ctx, which)
	if err != nil {
		return "", err
	}
	return aws.ToString(found.SecretString), nil
}

// The values at AWSCURRENT and AWSPREVIOUS.
func (s *story) both(ctx context.Context, current, previous string) error {
	now, err := s.current(ctx)
	if err != nil {
		return err
	}
	before, err := s.at(ctx, &sm.GetSecretValueInput{VersionStage: aws.String("AWSPREVIOUS")})
	if err != nil {
		return err
	}
	return equal([]string{now, before}, []string{current, previous})
}

func (s *story) describe(ctx context.Context) (*sm.DescribeSecretOutput, error) {
	return s.Client.DescribeSecret(ctx, &sm.DescribeSecretInput{SecretId: &s.id})
}

func tags(given []types.Tag) map[string]string {
	found := map[string]string{}
	for _, tag := range given {
		found[*tag.Key] = *tag.Value
	}
	return found
}

func (s *story) getRandomPassword(ctx context.Context) error {
	drawn, err := s.GetRandomPassword(ctx, &sm.GetRandomPasswordInput{
		PasswordLength: aws.Int64(24), ExcludePunctuation: aws.Bool(true),
	})
	if err != nil {
		return err
	}
	other := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }
	if len(*drawn.RandomPassword) != 24 || strings.ContainsFunc(*drawn.RandomPassword, other) {
		return errors.New("not 24 letters and digits")
	}
	return nil
}

func (s *story) createSecret(ctx context.Context) error {
	made, err := s.CreateSecret(ctx, &sm.CreateSecretInput{
		Name: &s.id, SecretString: aws.String(text), Description: aws.String("of orders"),
		Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("shop")}},
	})
	if err != nil {
		return err
	}
	s.versions = append(s.versions, *made.VersionId)
	if _, err = s.CreateSecret(ctx, &sm.CreateSecretInput{Name: &s.bytes, SecretBinary: s.every}); err != nil {
		return err
	}
	_, err = s.CreateSecret(ctx, &sm.CreateSecretInput{Name: &s.id, SecretString: aws.String("x")})
	return refused[*types.ResourceExistsException](s.id, err)
}

func (s *story) getSecretValue(ctx context.Context) error {
	found, err := s.GetSecretValue(ctx, &sm.GetSecretValueInput{SecretId: &s.id})
	if err != nil {
		return err
	}
	if err := equal([]any{*found.SecretString, found.VersionStages}, []any{text, []string{"AWSCURRENT"}}); err != nil {
		return err
	}
	by, err := s.GetSecretValue(ctx, &sm.GetSecretValueInput{SecretId: found.ARN})
	if err != nil {
		return err
	}
	if err := equal(*by.VersionId, s.versions[0]); err != nil {
		return err
	}
	binary, err := s.GetSecretValue(ctx, &sm.GetSecretValueInput{SecretId: &s.bytes})
	if err != nil {
		return err
	}
	if !bytes.Equal(binary.SecretBinary, s.every) {
		return errors.New("other bytes")
	}
	_, err = s.GetSecretValue(ctx, &sm.GetSecretValueInput{SecretId: aws.String(s.place + "/none")})
	return refused[*types.ResourceNotFoundException]("can't find the specified secret", err)
}

func (s *story) describeSecret(ctx context.Context) error {
	found, err := s.describe(ctx)
	if err != nil {
		return err
	}
	if found.CreatedDate == nil || time.Since(*found.CreatedDate).Abs() > time.Hour {
		return fmt.Errorf("created at %v", found.CreatedDate)
	}
	return equal(
		[]any{*found.Description, tags(found.Tags), found.VersionIdsToStages},
		[]any{"of orders", map[string]string{"team": "shop"}, map[string][]string{s.versions[0]: {"AWSCURRENT"}}},
	)
}

func (s *story) putSecretValue(ctx context.Context) error {
	put, err := s.PutSecretValue(ctx, &sm.PutSecretValueInput{SecretId: &s.id, SecretString: aws.String("second")})
	if err != nil {
		return err
	}
	s.versions = append(s.versions, *put.VersionId)
	if err := s.both(ctx, "second", text); err != nil {
		return err
	}
	first, err := s.at(ctx, &sm.GetSecretValueInput{VersionId: &s.versions[0]})
	if err != nil {
		return err
	}
	return equal(first, text)
}

func (s *story) updateSecretVersionStage(ctx context.Context) error {
	if _, err := s.UpdateSecretVersionStage(ctx, &sm.UpdateSecretVersionStageInput{
		SecretId: &s.id, VersionStage: aws.String("AWSCURRENT"),
		MoveToVersionId: &s.versions[0], RemoveFromVersionId: &s.versions[1],
	}); err != nil {
		return err
	}
	return s.both(ctx, text, "second")
}

func (s *story) listSecretVersionIds(ctx context.Context) error {
	listing := sm.NewListSecretVersionIdsPaginator(
		s.Client, &sm.ListSecretVersionIdsInput{SecretId: &s.id, MaxResults: aws.Int32(1)})
	pages, found := 0, map[string]bool{}
	for listing.HasMorePages() {
		page, err := listing.NextPage(ctx)
		if err != nil {
			return err
		}
		pages++
		for _, version := range page.Versions {
			found[*version.VersionId] = true
		}
	}
	if pages < 2 {
		return errors.New("one page")
	}
	return equal(found, map[string]bool{s.versions[0]: true, s.versions[1]: true})
}

func (s *story) updateSecret(ctx context.Context) error {
	if _, err := s.UpdateSecret(ctx, &sm.UpdateSecretInput{
		SecretId: &s.id, SecretString: aws.String("third"), Description: aws.String("of all orders"),
	}); err != nil {
		return err
	}
	found, err := s.describe(ctx)
	if err != nil {
		return err
	}
	if err := equal(*found.Description, "of all orders"); err != nil {
		return err
	}
	return s.both(ctx, "third", text)
}

func (s *story) tagResource(ctx context.Context) error {
	if _, err := s.TagResource(ctx, &sm.TagResourceInput{
		SecretId: &s.id, Tags: []types.Tag{{Key: aws.String("tier"), Value: aws.String("gold")}},
	}); err != nil {
		return err
	}
	found, err := s.describe(ctx)
	if err != nil {
		return err
	}
	return equal(tags(found.Tags), map[string]string{"team": "shop", "tier": "gold"})
}

func (s *story) untagResource(ctx context.Context) error {
	if _, err := s.UntagResource(ctx, &sm.UntagResourceInput{SecretId: &s.id, TagKeys: []string{"team"}}); err != nil {
		return err
	}
	found, err := s.describe(ctx)
	if err != nil {
		return err
	}
	return equal(tags(found.Tags), map[string]string{"tier": "gold"})
}
