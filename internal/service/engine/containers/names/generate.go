package names

import (
	"math/rand/v2"
	"strconv"
)

// Generate makes a name of docker's shape, adjective_surname; from the attempt-th try on with a digit at its end.
func Generate(attempt int) string {
	name := adjectives[rand.IntN(len(adjectives))] + "_" + surnames[rand.IntN(len(surnames))]
	if attempt > 0 {
		name += strconv.Itoa(rand.IntN(10))
	}
	return name
}

// The words of the harbour and of those who measured, built and sailed.
var adjectives = [...]string{
	"able", "agile", "airy", "ample", "apt", "ardent", "azure", "balmy", "bold", "brave", "breezy", "bright", "brisk",
	"buoyant", "calm", "candid", "careful", "cheery", "clear", "coastal", "cordial", "crisp", "curious", "dapper",
	"daring", "deft", "diligent", "eager", "earnest", "easy", "even", "fair", "faithful", "fleet", "fluent", "fond",
	"frank", "fresh", "gallant", "gentle", "glad", "golden", "graceful", "handy", "happy", "hardy", "helpful", "honest",
	"humble", "intent", "jolly", "jovial", "keen", "kind", "lively", "loyal", "lucid", "merry", "mild", "modest",
	"moored", "neat", "nimble", "noble", "patient", "placid", "plucky", "polite", "prompt", "proud", "quick", "quiet",
	"ready", "robust", "rosy", "salty", "seaworthy", "sedate", "serene", "sharp", "sincere", "smart", "snug", "sober",
	"sound", "spirited", "sprightly", "stable", "staunch", "steady", "stout", "sturdy", "sunny", "supple", "sure",
	"swift", "tidal", "tidy", "tranquil", "trim", "true", "trusty", "upbeat", "valiant", "vivid", "warm", "wary",
	"willing", "windward", "wise", "witty", "zesty",
}

var surnames = [...]string{
	"abel", "agnesi", "airy", "ampere", "anning", "archimedes", "babbage", "banks", "bardeen", "barents", "bell",
	"bering", "bernoulli", "blackburn", "bohr", "bolyai", "boole", "borg", "bougainville", "bowditch", "brunel", "cabot",
	"cantor", "carver", "cauchy", "celsius", "chandra", "clarke", "cook", "copernicus", "curie", "darwin", "dirac",
	"drake", "earhart", "eiffel", "einstein", "ekman", "erlang", "euclid", "euler", "faraday", "fermat", "fermi",
	"fibonacci", "fitzroy", "fourier", "franklin", "fresnel", "galileo", "gama", "gauss", "germain", "godel", "haldane",
	"halley", "hamilton", "harrison", "heisenberg", "herschel", "hertz", "hilbert", "hooke", "hopper", "hubble",
	"humboldt", "huygens", "hypatia", "jacobi", "joule", "kepler", "kirchhoff", "kolmogorov", "lagrange", "laplace",
	"lavoisier", "leibniz", "linnaeus", "lovelace", "magellan", "markov", "maury", "maxwell", "mayer", "meitner",
	"mendel", "mercator", "nansen", "napier", "navier", "newton", "noether", "nunes", "ohm", "pascal", "pasteur",
	"perrault", "planck", "poincare", "ptolemy", "ramanujan", "riemann", "ritchie", "rubin", "russell", "scoresby",
	"shannon", "smeaton", "somerville", "stevenson", "stokes", "swan", "tasman", "tesla", "torricelli", "turing",
	"vespucci", "volta", "watt", "wegener", "wiener", "yukawa", "zheng",
}
