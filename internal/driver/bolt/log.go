package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"sort"
	"strconv"

	bbolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// A log record: checksum of what follows (4 bytes), length of the body (4), then the body: sequence (8), kind (1),
// lengths of bucket and key (2 each), bucket, key, document. Numbers are big endian, the checksum is CRC-32C.
const (
	recordHead = 8
	bodyHead   = 13
	maxRecord  = 256 << 20
)

const (
	kindPut    = 'p'
	kindDelete = 'd'
)

// volatileLog is the file that volatile writes are appended to. Its owner serialises the calls.
type volatileLog struct {
	file   *os.File
	name   string
	number int
	size   int64 // of whole records
	room   int64 // up to where the disk has set space aside
	buf    []byte
}

// reserve is the space that is set aside ahead of the records, so that what happens to containers is still written down while the
// disk is full.
const reserve = 1 << 20

func createLog(path string, number int) (*volatileLog, error) {
	name := path + ".log." + strconv.Itoa(number)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &volatileLog{file: f, name: name, number: number}, nil
}

// ahead sets space aside. Where the file system cannot there is none, which is no error.
func (l *volatileLog) ahead() error {
	err := unix.Fallocate(int(l.file.Fd()), unix.FALLOC_FL_KEEP_SIZE, l.size, reserve)
	if err == nil {
		l.room = l.size + reserve
	}
	if full(err) {
		return err
	}
	return nil
}

// full tells that an error means a disk without room.
func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// beginLog begins a log. On a full disk the last process goes on in this one's log, where its reserve is.
func (s *Store) beginLog() (err error) {
	s.log, err = createLog(s.path, nextLog(s.retired))
	if err == nil {
		err = s.log.ahead()
	}
	n := len(s.retired)
	if !full(err) || n == 0 || len(s.damaged) > 0 {
		if full(err) && s.log != nil {
			return nil
		}
		return err
	}
	if s.log != nil {
		err = s.log.remove()
	}
	name := s.retired[n-1]
	f, oerr := os.OpenFile(name, os.O_WRONLY, 0o600)
	if err := errors.Join(err, oerr); err != nil && !full(err) {
		return err
	}
	s.retired = s.retired[:n-1]
	s.log = &volatileLog{file: f, name: name, number: logNumber(name), size: s.whole}
	return nil
}

// append writes one record in one call. After a failure the file is as if nothing had been tried: the next record
// goes to the same offset.
func (l *volatileLog) append(o *op) error {
	l.buf = appendRecord(l.buf[:0], o)
	if len(l.buf) > maxRecord {
		return errors.New("document too large")
	}
	if _, err := l.file.WriteAt(l.buf, l.size); err != nil {
		return errors.Join(err, l.file.Truncate(l.size))
	}
	l.size += int64(len(l.buf))
	if l.room != 0 && l.size > l.room-reserve/2 {
		_ = l.ahead() // tried again with the next record
	}
	if cap(l.buf) > 1<<20 {
		l.buf = nil
	}
	return nil
}

func (l *volatileLog) close() error { return l.file.Close() }

func (l *volatileLog) remove() error { return errors.Join(l.file.Close(), os.Remove(l.name)) }

func appendRecord(b []byte, o *op) []byte {
	b = append(b, make([]byte, recordHead)...)
	b = binary.BigEndian.AppendUint64(b, o.seq)
	if o.deleted {
		b = append(b, kindDelete)
	} else {
		b = append(b, kindPut)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(o.bucket)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(o.key)))
	b = append(append(append(b, o.bucket...), o.key...), o.doc...)
	binary.BigEndian.PutUint32(b[4:], uint32(len(b)-recordHead))
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli()))
	return b
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// nextRecord cuts the first record off data. ok is false at the end and at a torn or damaged record: nothing behind it
// can be trusted.
func nextRecord(data []byte) (o op, rest []byte, ok bool) {
	if len(data) < recordHead+bodyHead {
		return op{}, nil, false
	}
	n := int64(binary.BigEndian.Uint32(data[4:]))
	if n < bodyHead || n > int64(len(data)-recordHead) {
		return op{}, nil, false
	}
	if crc32.Checksum(data[4:recordHead+n], castagnoli()) != binary.BigEndian.Uint32(data) {
		return op{}, nil, false
	}
	body, rest := data[recordHead:recordHead+n], data[recordHead+n:]
	nb, nk := int(binary.BigEndian.Uint16(body[9:])), int(binary.BigEndian.Uint16(body[11:]))
	kind := body[8]
	if bodyHead+nb+nk > len(body) || (kind != kindPut && kind != kindDelete) || nb == 0 || nk == 0 {
		return op{}, nil, false
	}
	o = op{seq: binary.BigEndian.Uint64(body), deleted: kind == kindDelete}
	body = body[bodyHead:]
	o.bucket, o.key, o.doc = string(body[:nb]), string(body[nb:nb+nk]), body[nb+nk:]
	return o, rest, true
}

// replay reads the logs of former processes into the overlay, without what db or a tombstone supersedes.
func (s *Store) replay() error {
	logs, err := findLogs(s.path)
	if err != nil {
		return err
	}
	return s.db.View(func(tx *bbolt.Tx) error {
		meta, tombs := tx.Bucket(metaBucket), tx.Bucket(tombBucket)
		folded := sequence(meta.Get(foldedKey))
		s.seq = max(sequence(meta.Get(seqKey)), folded)
		s.tombs = tombs.Stats().KeyN
		for _, name := range logs {
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			size := len(data)
			for o, rest, ok := nextRecord(data); ok; o, rest, ok = nextRecord(rest) {
				s.seq = max(s.seq, o.seq)
				if o.seq > folded && o.seq > stored(tx, &o) && o.seq > sequence(tombs.Get(tombKey(o.bucket, o.key))) {
					s.overlay.apply(&o)
				}
				data = rest
			}
			s.whole = int64(size - len(data))
			if err := s.setAside(name, data); err != nil {
				return err
			}
		}
		s.retired = logs
		return nil
	})
}

// setAside keeps what could not be read of a log, which goes once its records are folded. A power cut leaves the last records torn or
// zero: these were never promised to survive one.
func (s *Store) setAside(name string, rest []byte) error {
	if len(bytes.Trim(rest, "\x00")) == 0 {
		return nil
	}
	kept := s.path + ".damaged" + filepath.Ext(name)
	if err := os.WriteFile(kept, rest, 0o600); full(err) {
		kept = name
	} else if err != nil {
		return err
	}
	s.damaged = append(s.damaged, kept)
	return nil
}

// stored is the sequence of the document that db has under o's key.
func stored(tx *bbolt.Tx, o *op) uint64 {
	if b := tx.Bucket(bucketName(o.bucket)); b != nil {
		return sequence(b.Get([]byte(o.key)))
	}
	return 0
}

// findLogs lists the log files of a store, oldest first.
func findLogs(path string) ([]string, error) {
	names, err := filepath.Glob(escapeGlob(path) + ".log.*")
	if err != nil {
		return nil, err
	}
	logs := names[:0]
	for _, n := range names {
		if logNumber(n) > 0 {
			logs = append(logs, n)
		}
	}
	sort.Slice(logs, func(i, j int) bool { return logNumber(logs[i]) < logNumber(logs[j]) })
	return logs, nil
}

func logNumber(name string) int {
	n, err := strconv.Atoi(filepath.Ext(name)[1:])
	if err != nil {
		return 0
	}
	return n
}

func nextLog(logs []string) int {
	if len(logs) == 0 {
		return 1
	}
	return logNumber(logs[len(logs)-1]) + 1
}

func escapeGlob(path string) string {
	var b []byte
	for i := range len(path) {
		switch path[i] {
		case '*', '?', '[', '\\':
			b = append(b, '\\')
		}
		b = append(b, path[i])
	}
	return string(b)
}
