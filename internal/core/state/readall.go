package state

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
)

// ReadAll answers what read makes of each document of a bucket, in key order. read is called by as many goroutines as
// there are processors: decoding the records is most of what a daemon of a thousand containers does when it comes up.
func ReadAll[T any](ctx context.Context, s Store, bucket string, read func(key string, doc []byte) T) ([]T, error) {
	var keys []string
	var docs [][]byte
	err := s.Each(ctx, bucket, func(key string, doc []byte) error {
		keys, docs = append(keys, key), append(docs, doc)
		return nil
	})
	if err != nil {
		return nil, err
	}
	made := make([]T, len(keys))
	var next atomic.Int64
	var readers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(keys)) {
		readers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(keys)); i = next.Add(1) - 1 {
				made[i] = read(keys[i], docs[i])
			}
		})
	}
	readers.Wait()
	return made, nil
}
