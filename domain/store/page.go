package store

import (
	"gorm.io/gorm"

	"github.com/chainreactions/chainreactions/domain"
)

// Oldest reads a page of q, which has conditions and no order, the rows of the
// smallest ids first. Ids are made in the order of time. id gives that of a row.
func Oldest[T any](q *gorm.DB, in domain.PageRequest, id func(T) string) (domain.Page[T], error) {
	return page(q.Order("id"), "id > ?", in, id)
}

// Newest is Oldest the other way round.
func Newest[T any](q *gorm.DB, in domain.PageRequest, id func(T) string) (domain.Page[T], error) {
	return page(q.Order("id DESC"), "id < ?", in, id)
}

func page[T any](q *gorm.DB, rest string, in domain.PageRequest, id func(T) string) (domain.Page[T], error) {
	after, err := in.After()
	if err != nil {
		return domain.Page[T]{}, err
	}
	if after != "" {
		q = q.Where(rest, after)
	}
	var rows []T
	if err := q.Limit(in.Size() + 1).Find(&rows).Error; err != nil {
		return domain.Page[T]{}, err
	}
	return domain.NewPage(rows, in.Size(), id), nil
}
