// A score and its parts, in figures and as bars; the colour repeats what the word says.
import { Badge, Group, Progress, Stack, Table, Text } from '@mantine/core';
import { useTranslation } from 'react-i18next';
import type { Schema } from '../api';
import { format } from '../i18n';

export const algorithms = ['word', 'jaro_winkler', 'levenshtein', 'ngram', 'geographic'] as const;
const colours: Record<string, string> = { high: 'red', medium: 'orange', low: 'gray' };

export function Quality({ match }: { match: Schema<'MatchResult'> }) {
  const { t } = useTranslation();
  const quality = match.quality as 'high' | 'medium' | 'low';
  return (
    <Group gap={6} wrap="nowrap">
      <Text fw={650} ff="monospace">
        {format.score(match.score)}
      </Text>
      <Badge variant="outline" color={colours[quality] ?? 'gray'} c="var(--mantine-color-text)">
        {t(`quality.${quality}`)}
      </Badge>
    </Group>
  );
}

/** How the score came about: each algorithm, and which words agreed. */
export function Explained({ match }: { match: Schema<'MatchResult'> }) {
  const { t } = useTranslation();
  const parts = match.algorithms;
  const why = match.explanation;
  return (
    <Stack gap="sm">
      {parts &&
        algorithms.map((name) => {
          const value = parts[name];
          return (
            <Group key={name} gap="sm" wrap="nowrap">
              <Text size="sm" w={130}>
                {t(`algorithm.${name}`)}
              </Text>
              <Progress value={(value ?? 0) * 100} flex={1} aria-label={t(`algorithm.${name}`)} />
              <Text size="sm" ff="monospace" w={80} ta="end">
                {value === null ? t('algorithm.unknown') : format.score(value)}
              </Text>
            </Group>
          );
        })}
      {why && (
        <>
          <Text size="sm">{t('explain.compared', { query: why.query, listed: why.listed })}</Text>
          {why.words.length > 0 && (
            <Table withRowBorders={false} verticalSpacing={2}>
              <Table.Thead>
                <Table.Tr>
                  <Table.Th>{t('explain.asked')}</Table.Th>
                  <Table.Th>{t('explain.listed')}</Table.Th>
                  <Table.Th ta="end">{t('explain.similarity')}</Table.Th>
                  <Table.Th ta="end">{t('explain.rarity')}</Table.Th>
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {why.words.map((w, i) => (
                  <Table.Tr key={i}>
                    <Table.Td>{w.query}</Table.Td>
                    <Table.Td>{w.listed}</Table.Td>
                    <Table.Td ta="end">{format.score(w.similarity)}</Table.Td>
                    <Table.Td ta="end">{format.score(w.weight)}</Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          )}
        </>
      )}
    </Stack>
  );
}

/**
 * What a match scores under other weights, by the server's own sum (compare, in
 * domain/match) of the parts that it told: the mean of those that are known, at
 * most what the agreeing words allow. Whatever else it took off stays in
 * proportion; initials have a score of their own, whatever the weights.
 */
export function rescored(match: Schema<'MatchResult'>, was: Schema<'Weights'>, now: Schema<'Weights'>): Schema<'MatchResult'> {
  const { algorithms: parts, explanation: why } = match;
  if (!parts || !why || match.match_type === 'core_acronym') return match;
  const mean = (weights: Schema<'Weights'>) => {
    let [sum, total] = [0, 0];
    for (const name of algorithms) {
      const value = parts[name];
      if (value === null) continue;
      sum += weights[name] * value;
      total += weights[name];
    }
    return total > 0 ? Math.min(sum / total, why.cap) : 0;
  };
  const before = mean(was);
  if (before === 0) return match;
  const score = Math.min(1, (match.score * mean(now)) / before);
  const confidence = score * (0.7 + 0.3 * why.evidence);
  return { ...match, score, confidence, quality: confidence >= 0.85 ? 'high' : confidence >= 0.65 ? 'medium' : 'low' };
}
