// The peer that `make bench` measures webhook against: the same work as an experienced Go developer
// writes it. HMAC over the raw body in constant time, the push parsed, 202 only after the broker
// acknowledged (acks=all).
//
//	peer ADDRESS BROKER TOPIC SECRET
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type person struct {
	Name, Email, Username string
}

type commit struct {
	ID                       string
	Message, Timestamp       string
	Author, Committer        person
	Added, Removed, Modified []string
}

type push struct {
	Ref, Before, After       string
	Created, Deleted, Forced bool
	Repository               struct {
		CloneURL string `json:"clone_url"`
		FullName string `json:"full_name"`
	}
	Pusher     person
	HeadCommit *commit `json:"head_commit"`
	Commits    []commit
}

type event struct {
	Delivery, Repo, Ref, Before, After, Pusher string
	Head                                       *commit
	Paths                                      []string
}

func main() {
	secret := []byte(os.Args[4])
	client, err := kgo.NewClient(kgo.SeedBrokers(os.Args[2]), kgo.DefaultProduceTopic(os.Args[3]))
	if err != nil {
		log.Fatal(err)
	}
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = os.Args[3], 6, 1
	create := kmsg.NewPtrCreateTopicsRequest()
	create.Topics = append(create.Topics, topic)
	if _, err := create.RequestWith(context.Background(), client); err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("POST /v1/webhooks/github", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 25<<20))
		if err != nil {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		given, _ := hex.DecodeString(strings.TrimPrefix(r.Header.Get("X-Hub-Signature-256"), "sha256="))
		mac := hmac.New(sha256.New, secret)
		mac.Write(body)
		if !hmac.Equal(given, mac.Sum(nil)) {
			http.Error(w, "bad signature", http.StatusUnauthorized)
			return
		}
		var p push
		if err := json.Unmarshal(body, &p); err != nil || p.Repository.CloneURL == "" {
			http.Error(w, "malformed", http.StatusBadRequest)
			return
		}
		e := event{Delivery: r.Header.Get("X-GitHub-Delivery"), Repo: p.Repository.CloneURL, Ref: p.Ref, Before: p.Before, After: p.After, Pusher: p.Pusher.Name, Head: p.HeadCommit}
		for _, c := range p.Commits {
			e.Paths = append(append(append(e.Paths, c.Added...), c.Removed...), c.Modified...)
		}
		value, _ := json.Marshal(e)
		record := &kgo.Record{Key: []byte(e.Repo), Value: value}
		if err := client.ProduceSync(r.Context(), record).FirstErr(); err != nil {
			http.Error(w, "unavailable", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		json.NewEncoder(w).Encode(map[string]string{"status": "accepted", "delivery_id": e.Delivery, "commit": e.After})
	})
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}
