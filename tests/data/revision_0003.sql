BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0003');
CREATE TABLE chat (
	id INTEGER NOT NULL, 
	platform VARCHAR(32) NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	thread VARCHAR(255) NOT NULL, 
	address TEXT, 
	name TEXT, 
	context_start INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_chat PRIMARY KEY (id), 
	CONSTRAINT uq_chat_platform_key_thread UNIQUE (platform, "key", thread)
);
INSERT INTO "chat" VALUES(1,'telegram','b121c92d3920c80218d26ab4ae1693656238029393ad05718181019fcbc033da','',NULL,NULL,0,'2026-11-28 01:31:57.948638');
CREATE TABLE consent (
	id INTEGER NOT NULL, 
	person_id INTEGER NOT NULL, 
	chat_id INTEGER NOT NULL, 
	scope VARCHAR(32) NOT NULL, 
	given BOOLEAN NOT NULL, 
	wording VARCHAR(64) NOT NULL, 
	how VARCHAR(255) NOT NULL, 
	at DATETIME NOT NULL, 
	CONSTRAINT pk_consent PRIMARY KEY (id), 
	CONSTRAINT fk_consent_chat_id_chat FOREIGN KEY(chat_id) REFERENCES chat (id), 
	CONSTRAINT fk_consent_person_id_person FOREIGN KEY(person_id) REFERENCES person (id)
);
INSERT INTO "consent" VALUES(1,1,1,'train',1,'1','/consent yes','2026-11-28 01:31:58.114683');
CREATE TABLE correction (
	id INTEGER NOT NULL, 
	message_id INTEGER NOT NULL, 
	person_id INTEGER NOT NULL, 
	text TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	deleted_at DATETIME, 
	CONSTRAINT pk_correction PRIMARY KEY (id), 
	CONSTRAINT fk_correction_message_id_message FOREIGN KEY(message_id) REFERENCES message (id), 
	CONSTRAINT fk_correction_person_id_person FOREIGN KEY(person_id) REFERENCES person (id)
);
INSERT INTO "correction" VALUES(1,4,1,'面条','2026-11-28 01:31:58.214892',NULL);
CREATE TABLE dataset (
	id INTEGER NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	hash VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_dataset PRIMARY KEY (id)
);
INSERT INTO "dataset" VALUES(1,'first','0000000000000000000000000000000000000000000000000000000000000000','2026-11-28 01:31:58.422945');
CREATE TABLE dataset_item (
	dataset_id INTEGER NOT NULL, 
	message_id INTEGER NOT NULL, 
	CONSTRAINT pk_dataset_item PRIMARY KEY (dataset_id, message_id), 
	CONSTRAINT fk_dataset_item_dataset_id_dataset FOREIGN KEY(dataset_id) REFERENCES dataset (id), 
	CONSTRAINT fk_dataset_item_message_id_message FOREIGN KEY(message_id) REFERENCES message (id)
);
INSERT INTO "dataset_item" VALUES(1,1);
INSERT INTO "dataset_item" VALUES(1,2);
CREATE TABLE erasure (
	id INTEGER NOT NULL, 
	person_id INTEGER NOT NULL, 
	chat_id INTEGER, 
	message_id INTEGER, 
	messages INTEGER NOT NULL, 
	replies INTEGER NOT NULL, 
	corrections INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	CONSTRAINT pk_erasure PRIMARY KEY (id), 
	CONSTRAINT fk_erasure_chat_id_chat FOREIGN KEY(chat_id) REFERENCES chat (id), 
	CONSTRAINT fk_erasure_message_id_message FOREIGN KEY(message_id) REFERENCES message (id), 
	CONSTRAINT fk_erasure_person_id_person FOREIGN KEY(person_id) REFERENCES person (id)
);
INSERT INTO "erasure" VALUES(1,1,1,5,1,1,0,'2026-11-28 01:31:58.323091');
CREATE TABLE feedback (
	id INTEGER NOT NULL, 
	message_id INTEGER NOT NULL, 
	person_id INTEGER NOT NULL, 
	rating INTEGER, 
	text TEXT, 
	at DATETIME NOT NULL, 
	CONSTRAINT pk_feedback PRIMARY KEY (id), 
	CONSTRAINT ck_feedback_rating CHECK (rating IN (-1, 1)), 
	CONSTRAINT fk_feedback_message_id_message FOREIGN KEY(message_id) REFERENCES message (id), 
	CONSTRAINT fk_feedback_person_id_person FOREIGN KEY(person_id) REFERENCES person (id), 
	CONSTRAINT uq_feedback_message_id_person_id UNIQUE (message_id, person_id)
);
INSERT INTO "feedback" VALUES(1,2,1,1,NULL,'2026-11-28 01:31:58.092747');
CREATE TABLE import_batch (
	id INTEGER NOT NULL, 
	source TEXT NOT NULL, 
	declaration TEXT, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_import_batch PRIMARY KEY (id)
);
CREATE TABLE inbox (
	id INTEGER NOT NULL, 
	chat_id INTEGER NOT NULL, 
	person_id INTEGER NOT NULL, 
	platform_message_id VARCHAR(255) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	envelope TEXT, 
	reply TEXT, 
	reply_id INTEGER, 
	sent JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_inbox PRIMARY KEY (id), 
	CONSTRAINT ck_inbox_state CHECK (state IN ('received', 'pending', 'sending', 'sent', 'failed', 'unknown')), 
	CONSTRAINT fk_inbox_chat_id_chat FOREIGN KEY(chat_id) REFERENCES chat (id), 
	CONSTRAINT fk_inbox_person_id_person FOREIGN KEY(person_id) REFERENCES person (id), 
	CONSTRAINT fk_inbox_reply_id_message FOREIGN KEY(reply_id) REFERENCES message (id), 
	CONSTRAINT uq_inbox_chat_id_platform_message_id UNIQUE (chat_id, platform_message_id)
);
INSERT INTO "inbox" VALUES(1,1,1,'1','sent',NULL,NULL,2,'["7"]','2026-11-28 01:31:57.968028');
INSERT INTO "inbox" VALUES(2,1,1,'2','failed',NULL,NULL,4,'[]','2026-11-28 01:31:58.134763');
INSERT INTO "inbox" VALUES(3,1,1,'3','received','{"chat": "c", "sender": "me", "text": "still waiting", "message_id": "3", "sent_at": "2026-05-03T12:00:00+00:00", "reply_to": null, "thread": null, "options": {}}',NULL,NULL,'[]','2026-11-28 01:31:58.230853');
INSERT INTO "inbox" VALUES(4,1,1,'4','unknown',NULL,NULL,6,'[]','2026-11-28 01:31:58.250743');
CREATE TABLE "message" (
	id INTEGER NOT NULL, 
	chat_id INTEGER NOT NULL, 
	person_id INTEGER, 
	import_batch_id INTEGER, 
	platform_message_id VARCHAR(255), 
	reply_to_id INTEGER, 
	role VARCHAR(8) NOT NULL, 
	text TEXT NOT NULL, 
	context_start INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	edited_at DATETIME, 
	deleted_at DATETIME, 
	engine VARCHAR(32), 
	model_id VARCHAR(255), 
	decode_json JSON, 
	seed BIGINT, 
	latency_ms FLOAT, 
	score FLOAT, 
	detail TEXT, 
	delivery VARCHAR(16), 
	CONSTRAINT pk_message PRIMARY KEY (id), 
	CONSTRAINT fk_message_person_id_person FOREIGN KEY(person_id) REFERENCES person (id), 
	CONSTRAINT ck_message_role CHECK (role IN ('user', 'bot')), 
	CONSTRAINT fk_message_reply_to_id_message FOREIGN KEY(reply_to_id) REFERENCES message (id), 
	CONSTRAINT uq_message_chat_id_platform_message_id UNIQUE (chat_id, platform_message_id), 
	CONSTRAINT fk_message_import_batch_id_import_batch FOREIGN KEY(import_batch_id) REFERENCES import_batch (id), 
	CONSTRAINT fk_message_chat_id_chat FOREIGN KEY(chat_id) REFERENCES chat (id), 
	CONSTRAINT ck_message_delivery CHECK (delivery IN ('pending', 'sending', 'sent', 'failed', 'unknown'))
);
INSERT INTO "message" VALUES(1,1,1,NULL,'1',NULL,'user','hi',0,'2026-05-03 12:00:00.000000',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "message" VALUES(2,1,NULL,NULL,NULL,1,'bot','hello',0,'2026-11-28 01:31:58.026544',NULL,NULL,'seq2seq','m1','{"temperature": 0.7}',11,31.0,-0.5,NULL,'sent');
INSERT INTO "message" VALUES(3,1,1,NULL,'2',NULL,'user','今天想吃什么',0,'2026-05-03 12:00:00.000000',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "message" VALUES(4,1,NULL,NULL,NULL,3,'bot','wrong',0,'2026-11-28 01:31:58.158238',NULL,NULL,'seq2seq','m1','{}',NULL,0.0,NULL,NULL,'failed');
INSERT INTO "message" VALUES(5,1,1,NULL,'4',NULL,'user','',0,'2026-05-03 12:00:00.000000',NULL,'2026-11-28 01:31:58.323091',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "message" VALUES(6,1,NULL,NULL,NULL,5,'bot','',0,'2026-11-28 01:31:58.272231',NULL,'2026-11-28 01:31:58.323091','seq2seq','m1','{}',NULL,0.0,NULL,NULL,'unknown');
CREATE TABLE model (
	id VARCHAR(255) NOT NULL, 
	parent_id VARCHAR(255), 
	dataset_id INTEGER, 
	metrics JSON NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	run VARCHAR(255), 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_model PRIMARY KEY (id), 
	CONSTRAINT ck_model_state CHECK (state IN ('candidate', 'shadow', 'serving', 'retired', 'tainted')), 
	CONSTRAINT fk_model_dataset_id_dataset FOREIGN KEY(dataset_id) REFERENCES dataset (id)
);
INSERT INTO "model" VALUES('m2',NULL,1,'{"perplexity": 9.5}','serving',NULL,'2026-11-28 01:31:58.463803');
CREATE TABLE person (
	id INTEGER NOT NULL, 
	platform VARCHAR(32) NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_person PRIMARY KEY (id), 
	CONSTRAINT uq_person_platform_key UNIQUE (platform, "key")
);
INSERT INTO "person" VALUES(1,'telegram','8e93a2eef8e450d813029d5938e66f93242fce86565b576058de5ab25013fe27','2026-11-28 01:31:57.967465');
CREATE TABLE review (
	id INTEGER NOT NULL, 
	message_id INTEGER NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	person_id INTEGER, 
	why TEXT, 
	at DATETIME NOT NULL, 
	CONSTRAINT pk_review PRIMARY KEY (id), 
	CONSTRAINT ck_review_state CHECK (state IN ('waiting', 'accepted', 'rejected')), 
	CONSTRAINT fk_review_message_id_message FOREIGN KEY(message_id) REFERENCES message (id), 
	CONSTRAINT fk_review_person_id_person FOREIGN KEY(person_id) REFERENCES person (id)
);
CREATE TABLE shadow_reply (
	id INTEGER NOT NULL, 
	message_id INTEGER NOT NULL, 
	model_id VARCHAR(255) NOT NULL, 
	text TEXT NOT NULL, 
	score FLOAT, 
	latency_ms FLOAT, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_shadow_reply PRIMARY KEY (id), 
	CONSTRAINT fk_shadow_reply_message_id_message FOREIGN KEY(message_id) REFERENCES message (id), 
	CONSTRAINT fk_shadow_reply_model_id_model FOREIGN KEY(model_id) REFERENCES model (id)
);
CREATE INDEX ix_consent_person_id_chat_id_id ON consent (person_id, chat_id, id);
CREATE INDEX ix_feedback_person_id ON feedback (person_id);
CREATE INDEX ix_correction_message_id ON correction (message_id);
CREATE INDEX ix_correction_person_id ON correction (person_id);
CREATE INDEX ix_review_message_id ON review (message_id);
CREATE INDEX ix_erasure_person_id ON erasure (person_id);
CREATE INDEX ix_dataset_item_message_id ON dataset_item (message_id);
CREATE INDEX ix_shadow_reply_message_id ON shadow_reply (message_id);
CREATE INDEX ix_inbox_person_id ON inbox (person_id);
CREATE INDEX ix_inbox_state ON inbox (state);
CREATE INDEX ix_message_person_id ON message (person_id);
CREATE INDEX ix_message_reply_to_id ON message (reply_to_id);
CREATE INDEX ix_message_chat_id_id ON message (chat_id, id);
CREATE INDEX ix_message_deleted_at ON message (deleted_at);
CREATE VIRTUAL TABLE message_text USING fts5(text, content='message', content_rowid='id', tokenize='trigram');
CREATE TRIGGER message_text_edited AFTER UPDATE OF text ON message WHEN new.text <> '' AND old.id <= (SELECT coalesce(max(id), 0) FROM message_text_docsize) BEGIN INSERT INTO message_text(message_text, rowid, text) VALUES ('delete', old.id, old.text); INSERT INTO message_text(rowid, text) VALUES (new.id, new.text); END;
CREATE TRIGGER message_text_erased AFTER UPDATE OF text ON message WHEN new.text = '' AND old.text <> '' AND old.id <= (SELECT coalesce(max(id), 0) FROM message_text_docsize) BEGIN INSERT INTO message_text(message_text) VALUES ('delete-all'); END;
COMMIT;
