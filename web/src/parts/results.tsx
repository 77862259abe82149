// The answers about many names: the best of each in a table, and those of one to decide about.
import { Button, Group, Table, Text } from '@mantine/core';
import { useDeferredValue, useMemo, useState } from 'react';
import { useTranslation } from 'react-i18next';
import { save, type Schema } from '../api';
import { format } from '../i18n';
import { decided, Review, useDecisions, type Asked } from './review';
import { Quality, rescored } from './score';

export interface View {
  dataset_ids: string[];
  threshold: number;
  weights: Schema<'Weights'>;
}

export interface Answered extends Asked {
  error?: Schema<'ItemError'> | undefined;
}

const page = 100; // lines of the table at a time

/**
 * The answers to what was asked under one view, as they stand under another:
 * scores come from the parts that were told, so that a slider's effect is seen
 * at once and nothing is asked, nor metered, again.
 */
export function Results({ answers, asked, view }: { answers: Answered[]; asked: View; view: View }) {
  const { t } = useTranslation();
  const [open, setOpen] = useState<number | null>(null); // the name that is reviewed
  const [shown, setShown] = useState(page);
  const decisions = useDecisions(answers);
  const now = useDeferredValue(view);
  const moved = now.threshold !== asked.threshold || Object.entries(now.weights).some(([name, w]) => w !== asked.weights[name as keyof View['weights']]);
  const rows = useMemo(
    () =>
      moved
        ? answers.map((a) => ({
            ...a,
            matches: a.matches
              .map((m) => rescored(m, asked.weights, now.weights))
              .filter((m) => m.score >= now.threshold)
              .sort((x, y) => y.score - x.score),
          }))
        : answers,
    [answers, asked, now, moved],
  );
  const matched = useMemo(() => rows.filter((r) => r.matches.length > 0).length, [rows]);
  const keep = () => {
    // Cells that a spreadsheet would run as a formula get a quote in front.
    const cell = (v: string | number) => `"${String(v).replace(/^([=+\-@\t\r])/, "'$1").replaceAll('"', '""')}"`;
    const lines = rows.flatMap((r) => (r.matches.length ? r.matches.map((m) => [r.name, m.entry.name, m.matched_name, m.match_type, m.score, m.confidence]) : [[r.name, '', '', r.error?.code ?? '', '', '']]));
    const csv = [['query', 'name', 'matched_name', 'match_type', 'score', 'confidence'], ...lines].map((r) => r.map(cell).join(',')).join('\r\n');
    save('\uFEFF' + csv, 'matches.csv', 'text/csv');
  };
  if (open !== null) return <Review names={rows} at={open} go={setOpen} back={() => setOpen(null)} />;
  return (
    <>
      <Group justify="space-between">
        <Text size="sm" c="dimmed" aria-live="polite">
          {t('match.matched', { count: rows.length, names: format.number(rows.length), matched: format.number(matched) })}
          {moved && ` · ${t('match.moved', { threshold: format.score(asked.threshold) })}`}
        </Text>
        <Button size="xs" variant="default" onClick={keep}>
          {t('action.export')}
        </Button>
      </Group>
      <Table verticalSpacing="xs" className="cards">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>{t('match.name')}</Table.Th>
            <Table.Th>{t('match.best')}</Table.Th>
            <Table.Th>{t('match.score')}</Table.Th>
            <Table.Th>{t('review.decided')}</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {rows.slice(0, shown).map((r, at) => {
            const best = r.matches[0];
            const done = r.matches.filter((m) => decided(decisions.data?.[at], m)).length;
            return (
              <Table.Tr key={at}>
                <Table.Td>{r.name}</Table.Td>
                <Table.Td data-label={t('match.best')}>{r.error ? r.error.detail : (best?.entry.name ?? t('match.none'))}</Table.Td>
                <Table.Td data-label={t('match.score')}>{best ? <Quality match={best} /> : '–'}</Table.Td>
                <Table.Td data-label={t('review.decided')}>
                  {best ? (
                    <Button size="xs" variant="default" onClick={() => setOpen(at)} aria-label={t('review.openOne', { name: r.name })}>
                      {t('review.of', { done, all: r.matches.length })}
                    </Button>
                  ) : (
                    '–'
                  )}
                </Table.Td>
              </Table.Tr>
            );
          })}
        </Table.Tbody>
      </Table>
      {shown < rows.length && (
        <Button variant="default" onClick={() => setShown(shown + page)}>
          {t('action.more')}
        </Button>
      )}
    </>
  );
}
