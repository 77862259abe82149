package match

import (
	"math"

	"github.com/chainreactions/chainreactions/domain/geo"
)

// place is what an entry says of where it is, beside its countries.
type place struct {
	city       string
	lat, lon   float64
	positioned bool
}

// placeBytes is what one place takes in the map of an Index, its text included.
const placeBytes = 96

// halfwayKm is the distance at which two positions are worth half of one.
const halfwayKm = 250

// placeOf readies what is given; nothing is guessed.
func placeOf(city string, countries []string, lat, lon *float64) place {
	p := place{city: cityName(city, countries)}
	if lat != nil && lon != nil {
		p.lat, p.lon, p.positioned = *lat, *lon, true
	}
	return p
}

// cityName is the same for the spellings of a city that geo knows, Moscow and
// Москва; a city that it does not know goes by its letters.
func cityName(city string, countries []string) string {
	if city == "" {
		return ""
	}
	country := ""
	if len(countries) == 1 {
		country = countries[0]
	}
	if c, ok := geo.ResolveCity(city, country); ok {
		city = c.Name
	}
	var r reader
	r.cut(city)
	return string(r.letters)
}

// geographic compares where the query and an entry are: the mean of what both
// sides give.
//
//	country   1 the same, 0.6 in the same region (UN M49), 0 otherwise
//	city      1 the same, 0 otherwise
//	position  2^(-distance / 250 km)
//
// Where no part is known on both sides, nothing is known: nil.
func (ix *Index) geographic(q *whereabouts, entry uint32) *float64 {
	if !q.given {
		return nil
	}
	sum, known := 0.0, 0
	if land := ix.country[entry]; q.country != "" && land != 0 {
		v, ok := q.lands[land]
		if !ok {
			for _, code := range ix.lands[land] {
				switch {
				case code == q.country:
					v = 1
				case v < 0.6 && geo.SameRegion(code, q.country):
					v = 0.6
				}
			}
			q.lands[land] = v
		}
		sum, known = sum+v, known+1
	}
	if len(ix.places) > 0 && (q.city != "" || q.positioned) {
		p := ix.places[entry]
		if p.city != "" && q.city != "" {
			if p.city == q.city {
				sum++
			}
			known++
		}
		if p.positioned && q.positioned {
			sum += math.Exp2(-geo.DistanceKm(p.lat, p.lon, q.lat, q.lon) / halfwayKm)
			known++
		}
	}
	if known == 0 {
		return nil
	}
	v := sum / float64(known)
	return &v
}

// whereabouts are the query's, and what was found for sets of countries so far.
type whereabouts struct {
	place
	country string
	given   bool
	lands   map[uint16]float64
}

func whereaboutsOf(q Query) whereabouts {
	w := whereabouts{country: q.Country}
	if q.City != "" || q.Latitude != nil && q.Longitude != nil {
		var countries []string
		if q.Country != "" {
			countries = []string{q.Country}
		}
		w.place = placeOf(q.City, countries, q.Latitude, q.Longitude)
	}
	if w.given = w.country != "" || w.city != "" || w.positioned; w.given {
		w.lands = map[uint16]float64{}
	}
	return w
}
