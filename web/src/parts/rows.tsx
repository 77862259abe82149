import { Button, Table } from '@mantine/core';
import type { InfiniteData, UseInfiniteQueryResult } from '@tanstack/react-query';
import type { ReactNode } from 'react';
import { useTranslation } from 'react-i18next';

export interface ColumnOf<T> {
  label: string;
  show: (row: T) => ReactNode;
  end?: boolean; // figures stand at the end
}

/** A table; on a narrow screen its rows are cards that name each cell. */
export function Rows<T>({ rows, id, columns, label }: { rows: T[]; id: (row: T) => string; columns: ColumnOf<T>[]; label?: string }) {
  return (
    <Table verticalSpacing="sm" className="cards" aria-label={label}>
      <Table.Thead>
        <Table.Tr>
          {columns.map((c) => (
            <Table.Th key={c.label} ta={c.end ? 'end' : undefined}>
              {c.label}
            </Table.Th>
          ))}
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {rows.map((row) => (
          <Table.Tr key={id(row)}>
            {columns.map((c, i) => (
              <Table.Td key={c.label} ta={c.end ? 'end' : undefined} data-label={i > 0 ? c.label : undefined}>
                {c.show(row)}
              </Table.Td>
            ))}
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}

/** The next page of a list, where there is one. */
export function More({ of }: { of: UseInfiniteQueryResult<InfiniteData<unknown>> }) {
  const { t } = useTranslation();
  if (!of.hasNextPage) return null;
  return (
    <Button variant="default" onClick={() => void of.fetchNextPage()} loading={of.isFetchingNextPage}>
      {t('action.more')}
    </Button>
  );
}
