import { Container, Group, Stack, Text, Title } from '@mantine/core';
import { useEffect, type ReactNode } from 'react';

/** A page behind sign-in: its title, what it is for, its main action, its body. */
export function Page({ title, text, action, children }: { title: string; text?: string; action?: ReactNode; children: ReactNode }) {
  useEffect(() => {
    document.title = `${title} · ChainReactions`;
  }, [title]);
  return (
    <Container size="var(--page)" px={0}>
      <Stack gap="lg">
        <Group justify="space-between" align="flex-start">
          <div>
            <Title order={1} size="h2">
              {title}
            </Title>
            {text && <Text c="dimmed">{text}</Text>}
          </div>
          {action}
        </Group>
        {children}
      </Stack>
    </Container>
  );
}

/** A part of a page, under a title of its own. */
export function Section({ title, text, action, children }: { title: string; text?: string; action?: ReactNode; children?: ReactNode }) {
  return (
    <Stack component="section" gap="sm">
      <Group justify="space-between" align="flex-start">
        <div>
          <Title order={2} size="h4">
            {title}
          </Title>
          {text && (
            <Text size="sm" c="dimmed">
              {text}
            </Text>
          )}
        </div>
        {action}
      </Group>
      {children}
    </Stack>
  );
}
