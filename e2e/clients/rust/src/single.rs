//! The first half of the story: one secret, its values, versions, labels and tags.

use aws_sdk_secretsmanager::primitives::Blob;
use aws_sdk_secretsmanager::types::Tag;

use super::{Outcome, Story, TEXT, equal, expect, refused};

const NOT_FOUND: &str = "can't find the specified secret";

impl Story {
    pub(super) async fn get_random_password(&self) -> Outcome {
        let drawn =
            self.client.get_random_password().password_length(24).exclude_punctuation(true).send().await?;
        let drawn = drawn.random_password().unwrap_or_default();
        let plain = drawn.len() == 24 && drawn.chars().all(|each| each.is_ascii_alphanumeric());
        expect(plain, "not 24 letters and digits")
    }

    pub(super) async fn create_secret(&mut self) -> Outcome {
        let tag = Tag::builder().key("team").value("shop").build();
        let made = self.client.create_secret().name(&self.id).secret_string(TEXT).description("of orders");
        let made = made.tags(tag).send().await?;
        equal(made.name(), Some(self.id.as_str()))?;
        self.versions.extend(made.version_id);
        let binary = Blob::new(self.every.clone());
        self.client.create_secret().name(&self.bytes).secret_binary(binary).send().await?;
        let again = self.client.create_secret().name(&self.id).secret_string("x").send().await;
        refused(again, |error| error.is_resource_exists_exception(), &self.id)
    }

    pub(super) async fn get_secret_value(&self) -> Outcome {
        let get = || self.client.get_secret_value();
        let found = get().secret_id(&self.id).send().await?;
        equal(found.secret_string(), Some(TEXT))?;
        equal(found.version_stages().join(" "), "AWSCURRENT".to_owned())?;
        let by_arn = get().secret_id(found.arn().unwrap_or_default()).send().await?;
        equal(by_arn.version_id(), self.versions.first().map(String::as_str))?;
        let binary = get().secret_id(&self.bytes).send().await?;
        expect(binary.secret_binary().is_some_and(|found| found.as_ref() == self.every), "other bytes")?;
        let none = get().secret_id(format!("{}/none", self.place)).send().await;
        refused(none, |error| error.is_resource_not_found_exception(), NOT_FOUND)
    }

    pub(super) async fn describe_secret(&self) -> Outcome {
        let found = self.describe().await?;
        equal(found.description(), Some("of orders"))?;
        equal(self.tags().await?, "team=shop".to_owned())?;
        let stages = found.version_ids_to_stages().and_then(|all| all.get(&self.versions[0]));
        equal(stages.map(|stages| stages.join(" ")), Some("AWSCURRENT".to_owned()))?;
        let made = found.created_date().map(|date| date.secs());
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs().cast_signed();
        expect(made.is_some_and(|made| (made - now).abs() < 3600), "not created now")
    }

    pub(super) async fn put_secret_value(&mut self) -> Outcome {
        let put = self.client.put_secret_value().secret_id(&self.id).secret_string("second").send().await?;
        self.versions.extend(put.version_id);
        equal(
            (self.current().await?, self.at("AWSPREVIOUS").await?),
            ("second".to_owned(), TEXT.to_owned()),
        )?;
        let first =
            self.client.get_secret_value().secret_id(&self.id).version_id(&self.versions[0]).send().await?;
        equal(first.secret_string(), Some(TEXT))
    }

    pub(super) async fn update_secret_version_stage(&self) -> Outcome {
        let moving =
            self.client.update_secret_version_stage().secret_id(&self.id).version_stage("AWSCURRENT");
        moving.move_to_version_id(&self.versions[0]).remove_from_version_id(&self.versions[1]).send().await?;
        equal((self.current().await?, self.at("AWSPREVIOUS").await?), (TEXT.to_owned(), "second".to_owned()))
    }

    pub(super) async fn list_secret_version_ids(&self) -> Outcome {
        let listing = self.client.list_secret_version_ids().secret_id(&self.id);
        let mut listing = listing.into_paginator().page_size(1).send();
        let (mut pages, mut found) = (0, Vec::new());
        while let Some(page) = listing.next().await {
            pages += 1;
            found.extend(page?.versions().iter().filter_map(|each| each.version_id().map(str::to_owned)));
        }
        expect(pages > 1, "one page")?;
        let mut wanted = self.versions.clone();
        found.sort();
        wanted.sort();
        equal(found, wanted)
    }

    pub(super) async fn update_secret(&self) -> Outcome {
        let update = self.client.update_secret().secret_id(&self.id).secret_string("third");
        update.description("of all orders").send().await?;
        equal(self.current().await?, "third".to_owned())?;
        equal(self.describe().await?.description(), Some("of all orders"))
    }

    pub(super) async fn tag_resource(&self) -> Outcome {
        let tag = Tag::builder().key("tier").value("gold").build();
        self.client.tag_resource().secret_id(&self.id).tags(tag).send().await?;
        equal(self.tags().await?, "team=shop tier=gold".to_owned())
    }

    pub(super) async fn untag_resource(&self) -> Outcome {
        self.client.untag_resource().secret_id(&self.id).tag_keys("team").send().await?;
        equal(self.tags().await?, "tier=gold".to_owned())
    }

    pub(super) async fn delete_secret(&self) -> Outcome {
        let delete = || self.client.delete_secret();
        delete().secret_id(&self.bytes).force_delete_without_recovery(true).send().await?;
        let gone = self.client.describe_secret().secret_id(&self.bytes).send().await;
        refused(gone, |error| error.is_resource_not_found_exception(), NOT_FOUND)?;
        let deleted = delete().secret_id(&self.id).recovery_window_in_days(7).send().await?;
        expect(deleted.deletion_date().is_some(), "no date of the deletion")?;
        let marked = self.client.get_secret_value().secret_id(&self.id).send().await;
        refused(marked, |error| error.is_invalid_request_exception(), "marked for deletion")
    }

    pub(super) async fn restore_secret(&self) -> Outcome {
        self.client.restore_secret().secret_id(&self.id).send().await?;
        equal(self.current().await?, "third".to_owned())
    }
}
