// The frame of the pages that need no session.
import { Anchor, Button, Container, Divider, Group } from '@mantine/core';
import { Link, Outlet } from '@tanstack/react-router';
import { useTranslation } from 'react-i18next';
import { useSession } from '../session';
import { Brand, Preferences } from './chrome';

export function PublicShell() {
  const { t } = useTranslation();
  const { me } = useSession();
  return (
    <>
      <a href="#content" className="skip">
        {t('chrome.skip')}
      </a>
      <Container component="header" size="var(--page)" py="sm">
        <Group justify="space-between">
          <Brand to="/" />
          <Group gap="md" component="nav" aria-label={t('chrome.site')}>
            <Anchor component={Link} to="/plans">
              {t('nav.plans')}
            </Anchor>
            <Anchor href="/docs">{t('nav.docs')}</Anchor>
            {me ? (
              <Button component={Link} to="/app" size="sm">
                {t('nav.open')}
              </Button>
            ) : (
              <>
                <Anchor component={Link} to="/sign-in">
                  {t('nav.signIn')}
                </Anchor>
                <Button component={Link} to="/sign-up" size="sm">
                  {t('nav.signUp')}
                </Button>
              </>
            )}
            <Preferences />
          </Group>
        </Group>
      </Container>
      <Container component="main" id="content" size="var(--page)" py="lg" mih="70vh">
        <Outlet />
      </Container>
      <Divider />
      <Container component="footer" size="var(--page)" py="lg">
        <Group gap="lg">
          <Anchor component={Link} to="/status" size="sm">
            {t('nav.status')}
          </Anchor>
          <Anchor component={Link} to="/privacy" size="sm">
            {t('nav.privacy')}
          </Anchor>
          <Anchor component={Link} to="/terms" size="sm">
            {t('nav.terms')}
          </Anchor>
        </Group>
      </Container>
    </>
  );
}
