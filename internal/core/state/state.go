// Package state is the contract for the engine's records on disk: named buckets of JSON documents.
package state

import "context"

// Durability says whether a write must survive a power cut before the call returns.
type Durability bool

// Durable for what a client was told exists or is gone; Volatile for run state that a power cut makes false anyway
// (it still survives the death of the daemon).
const (
	Durable  Durability = true
	Volatile Durability = false
)

// Store keeps documents. All writes are atomic.
type Store interface {
	Put(ctx context.Context, bucket, key string, doc []byte, d Durability) error
	// Get answers ErrNotFound for a missing key.
	Get(ctx context.Context, bucket, key string) ([]byte, error)
	// Delete of a missing key is no error.
	Delete(ctx context.Context, bucket, key string, d Durability) error
	// Each calls f for every document in key order until f fails.
	Each(ctx context.Context, bucket string, f func(key string, doc []byte) error) error
}
