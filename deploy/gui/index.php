<?php
// Adminer, logged in as the role that may only read: the proxy has asked who it is before, and nobody chooses another
// server, database or role here. The password stays in this process; browsers get a session and no more.

const SERVER_NAME_AND_PORT = 'postgres:5432';
const ROLE = 'bindery_reader';

if (!isset($_GET['username']) && !isset($_GET['file'])) {
    // What the login form would send.
    $_POST['auth'] = ['driver' => 'pgsql', 'server' => '', 'username' => ROLE, 'password' => '', 'db' => 'bindery'];
}

function adminer_object()
{
    class Reader extends Adminer\Adminer
    {
        public function name()
        {
            return 'Bindery, read-only';
        }

        public function credentials()
        {
            $password = trim((string) file_get_contents('/run/bindery/gui/reader_password'));
            return [SERVER_NAME_AND_PORT, ROLE, $password];
        }

        public function login($login, $password)
        {
            return true;
        }

        public function databases($flush = true)
        {
            return ['bindery'];
        }

        public function head($dark = null)
        {
            // Nothing here asks anybody whether there is a newer version.
            echo Adminer\script('verifyVersion = () => { };');
            return true;
        }

        public function loginForm()
        {
            echo '<p>The database does not answer, or the role of readers is not there yet. <a href="./">Again</a>';
        }
    }

    return new Reader();
}

require '/usr/share/adminer/adminer.php';
