// Package retention decides which tags and untagged manifests a repository keeps, with zot's rules: the first policy
// whose repository glob matches, then any rule that a tag satisfies keeps it. Pure; the caller deletes.
package retention

import (
	"time"
)

// Config is zot's storage.retention, parsed. The zero value keeps everything.
type Config struct {
	// DryRun logs what would go and deletes nothing.
	DryRun bool
	// Delay is how old an untagged manifest or an orphaned referrer must be to go.
	Delay    time.Duration
	Policies []Policy
}

// Policy applies to repositories that match one of the globs ("*" within a path component, "**" across).
type Policy struct {
	Repositories []string
	// DeleteReferrers deletes manifests whose subject is missing.
	DeleteReferrers bool
	// DeleteUntagged deletes manifests without tags; zot's default is true, which the configuration parser sets.
	DeleteUntagged bool
	// KeepTags keeps tags that satisfy one of the rules; empty keeps all.
	KeepTags []Rule
	// KeepUntagged keeps untagged manifests that satisfy it (its Patterns are not used); nil keeps none.
	KeepUntagged *Rule
}

// Rule keeps what any of its conditions holds for; a rule without conditions keeps everything that its patterns match.
type Rule struct {
	// Patterns are regular expressions on tag names, matched anywhere as zot does; empty matches all.
	Patterns                []string
	PulledWithin            time.Duration
	PushedWithin            time.Duration
	MostRecentlyPushedCount int
	MostRecentlyPulledCount int
}
