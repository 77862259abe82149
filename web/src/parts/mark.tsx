import { Badge, Progress } from '@mantine/core';
import type { ReactNode } from 'react';

/** A state in a word; its colour says no more than the word, which is in the text's. */
export function Mark({ color, children }: { color?: string | undefined; children: ReactNode }) {
  return (
    <Badge variant="outline" c="var(--mantine-color-text)" color={color}>
      {children}
    </Badge>
  );
}

/** How much of a limit is used, as a bar. */
export function Used({ share, label }: { share: number; label: string }) {
  return <Progress mt={6} value={Math.min(100, share * 100)} color={share >= 0.9 ? 'red' : share >= 0.75 ? 'orange' : undefined} aria-label={label} />;
}
